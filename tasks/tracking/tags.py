"""The names of all tags that kdflow sets in MLflow."""

from enum import StrEnum

PREFIX = "kd."
"""Prefix of the names of kdflow's own tags. Earlier releases of kdflow set some tags that `Tag` does not contain."""

GENERATOR = "generator"
"""The value of `Tag.KIND` of a model version that is a generator."""


class Tag(StrEnum):
    """Name of a tag of a run, a logged model or a model version."""

    # Every run
    KIND = "kd.kind"  # one of lookup.KINDS
    KEY = "kd.key"  # digest of everything that determines the result
    LOCK = "kd.lock"  # name of the lock that the recording process holds
    ERROR = "kd.error"  # one line that says why the run failed
    WARNING = "kd.warning"  # one line about a problem that did not stop the run
    VERSION = "kd.version"
    TORCH = "kd.torch"
    MLFLOW = "kd.mlflow"
    PREFECT = "kd.prefect"
    PREFECT_FLOW_RUN = "kd.prefect_flow_run"
    PREFECT_TASK_RUN = "kd.prefect_task_run"
    IMPORTED = "kd.imported"  # time of the import from a bundle, in ms since 1970
    IMPORTED_FROM = "kd.imported_from"  # run id in the store that wrote the bundle
    PREFECT_URL = "kd.prefect_url"  # address of the flow run in Prefect's UI

    # Teachers and students
    CLAIM = "kd.claim"  # random id that connects a run with its folder of checkpoints
    CHECKPOINT = "kd.checkpoint"  # JSON: the newest checkpoint that the run stores, for another machine
    TAKEN_OVER = "kd.taken_over"  # run id of the interrupted run of another machine whose checkpoint this run continues
    RESUMED = "kd.resumed"  # time when an interrupted run was last resumed, in ms since 1970
    RESUMED_EPOCH = "kd.resumed_epoch"  # last epoch before the run was resumed
    VARIANT = "kd.variant"
    CONTROL = "kd.control"  # variant of the label-only student that this student is compared with
    SEEDS = "kd.seeds"
    REPLICAS = "kd.replicas"  # digest of everything except the seeds that determines the result
    REPLICA = "replica"  # JSON: seed, epoch and results of the network that is stored
    NOTE = "kd.note"
    TUNING = "kd.tuning"  # run id of the search that chose a student's hyperparameters
    TUNED = "kd.tuned"  # search: the chosen hyperparameters as JSON; student: prefix of one tag per hyperparameter
    MEMBERS = "kd.members"  # JSON: run ids of the members of an ensemble; each of these runs stores one network
    # JSON: number of stored views of each output of a teacher. A view is one augmented version of the images. The tag
    # is set after the files are stored.
    KNOWLEDGE = "kd.knowledge"

    # Generators
    COLLAPSE = "kd.collapse"  # a sentence that describes mode collapse

    # Comparisons and generations
    DATA_DIR = "kd.data_dir"
    # JSON: name of the pool of images of each dataset that the run stores, by the start of the dataset's distillation
    # digest. The tag is set after the files are stored.
    STORED_DATA = "kd.stored_data"
    VIEWS = "kd.views"
    TEACHER_RUN = "kd.teacher_run"
    WINNER = "kd.winner"  # name of a variant
    WINNER_RUN = "kd.winner_run"
    VERDICT = "kd.verdict"  # reason for the decision about a promotion
    PROMOTED = "kd.promoted"
    CANCEL = "kd.cancel"  # who asked for the end of a running comparison, and when
    TEST_READS = "kd.test_reads"  # number of times that the test split was read
    REPRODUCTION = "kd.reproduction"  # name of the reproduction; none of the students is promoted

    # Logged models
    FORMAT = "kd.format"

    # Model versions. Versions of students also have the tag kd.variant. All other versions have the tag kd.kind
    COMPARISON = "kd.comparison"  # run id of the comparison that promoted the version
    TEST_ACCURACY = "kd.test_accuracy"  # in percent, with its 95 % interval
    LOOK = "kd.look"  # e.g. "2 of 10": the second of 10 declared comparisons with a champion on this test split
    FORCED = "kd.forced"  # reason that a person gave for promoting a version that the gate refused
    REPLACED = "kd.replaced"  # number of the version that was the champion before this version
    ROLLED_BACK = "kd.rolled_back"
    OPPONENT = "kd.opponent"  # number of the champion that a pending version was compared with, or "none"
    REVIEW = "kd.review"  # approved or rejected
    REVIEWED_BY = "kd.reviewed_by"
    REVIEWED_AT = "kd.reviewed_at"  # in ISO 8601
    REVIEW_REASON = "kd.review_reason"
    TEST_DIGEST = "kd.test.digest"  # digest of the test split that was used to promote the version
