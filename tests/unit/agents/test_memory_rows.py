"""Keys of memory.latest lead back to what they are made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.memory_rows import Key, content_key, head_key, read_key

parts = st.text(st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), max_size=20)


@given(parts, parts, parts)
def test_keys_lead_back(tenant: str, namespace: str, id_: str) -> None:
    assert read_key(head_key(tenant, namespace, id_)) == Key(tenant, namespace, id_, False)
    assert read_key(content_key(tenant, namespace, id_)) == Key(tenant, namespace, id_, True)


@pytest.mark.parametrize(
    "text", ["", "a", "a\x1fb", "a\x1fb\x1fc\x1fd", "a\x1f\x1fb\x1fcontent\x1f"]
)
def test_what_is_no_key_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="no key of"):
        read_key(text)
