"""The names of tags that existing stores hold: a renamed tag would hide their runs."""

from tasks.tracking.tags import PREFIX, Tag

STORED = """
kd.cancel kd.checkpoint kd.claim kd.collapse kd.comparison kd.control kd.data_dir kd.error kd.forced kd.format
kd.imported kd.imported_from kd.key kd.kind kd.knowledge kd.lock kd.look kd.members kd.mlflow kd.note kd.opponent
kd.prefect kd.prefect_flow_run kd.prefect_task_run kd.prefect_url kd.promoted kd.replaced kd.replicas kd.reproduction
kd.resumed kd.resumed_epoch kd.review kd.review_reason kd.reviewed_at kd.reviewed_by kd.rolled_back kd.seeds
kd.stored_data kd.taken_over kd.teacher_run kd.test.digest kd.test_accuracy kd.test_reads kd.torch kd.tuned kd.tuning
kd.variant kd.verdict kd.version kd.views kd.warning kd.winner kd.winner_run replica
"""


def test_the_stored_names_never_change() -> None:
    assert sorted(Tag) == STORED.split()


def test_all_tags_but_one_have_the_prefix() -> None:
    assert [tag for tag in Tag if not tag.startswith(PREFIX)] == [Tag.REPLICA]


def test_a_tag_prints_as_its_name() -> None:
    assert f"tags.`{Tag.KIND}`" == "tags.`kd.kind`"
