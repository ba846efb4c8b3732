"""The one that falls sick; with LAWS_ROW=later, as a later version of it."""

import os

from tests.live.laws.law import Later, Row, processor

PROCESSOR = processor("sick", Later if os.environ.get("LAWS_ROW") == "later" else Row)
