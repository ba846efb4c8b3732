"""A note of how far an import came is read back as it was written."""

from hypothesis import given
from hypothesis import strategies as st

from agents.tools.importer import Note
from agents.tools.source import Mark
from topics import codec

counts = st.integers(0, 1 << 62)
marks = st.builds(
    Mark, counts, counts, st.text(max_size=16), st.text(max_size=16), counts, st.booleans()
)
notes = st.builds(
    Note, counts, counts, counts, st.integers(-(1 << 62), 1 << 62), counts, counts, marks
)


@given(notes, st.text())
def test_a_note_is_read_back_from_its_record(note: Note, source: str) -> None:
    schema, record = codec.decode(codec.encode("import_mark", note.record(source)))
    assert schema == "import_mark"
    assert Note.of(record) == note
    assert record["source"] == source


def test_nothing_noted_is_the_start() -> None:
    assert Note.of(None) == Note()
