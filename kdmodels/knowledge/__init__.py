"""The teacher's outputs, called knowledge. They are computed once for all students, or again for every batch."""

from kdmodels.knowledge.knowledge import (
    LOGITS,
    Knowledge,
    LiveTeacher,
    distil_knowledge,
    knowledge_files,
    load_knowledge,
    require_finite,
    store_knowledge,
)

__all__ = [
    "LOGITS",
    "Knowledge",
    "LiveTeacher",
    "distil_knowledge",
    "knowledge_files",
    "load_knowledge",
    "require_finite",
    "store_knowledge",
]
