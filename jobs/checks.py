"""What of a config is checked against images and weights before anything is computed: by `run`, and by `validate`."""

from collections.abc import Mapping

from ensemble.config import S3_SCHEME
from ensemble.errors import CheckpointError, ConfigError, ProjectError
from ensemble.images.open import open_source
from ensemble.images.split import Splits, split
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import ImportedSource, MemberSource, RecipeSource
from ensemble.subclassifiers.label_clusters import check_num_clusters
from ensemble.training.augmentation_settings import RandomCropConfig
from ensemble.training.task import hold_out
from ensemble.views.policies import weigh_views
from jobs.settings import RunConfig


def check_settings(config: RunConfig, splits: Splits) -> None:
    """Refuse, before anything is computed, what cannot work on these images.

    Raises:
        ConfigError: A setting does not fit the number of classes, or a member has no network.
    """
    num_classes = len(splits.test.classes)
    top_k = config.report.fit_top_k(num_classes)
    for key, k in (("search.k", config.search.k), ("report.top_k", top_k)):
        if k >= num_classes:
            raise ConfigError(
                f"{key} is {k}, and there are {num_classes} classes: nothing could be an error. "
                f"Set {key} to {num_classes - 1} or less."
            )
    if config.subclassifiers:
        check_num_clusters(max(config.subclassifiers.num_clusters), num_classes)
    for member in config.members:
        trained = isinstance(member.source, RecipeSource) and member.source.recipe
        if trained and config.recipes[trained].copies and getattr(member.source, "start", None):
            raise ConfigError(
                f"the member {member.name!r} starts from other weights, so that its images are read as they are "
                f"needed, and recipes.{trained}.copies adds copies of images in memory. Leave copies or start out."
            )
        if trained and (validation := config.recipes[trained].validation) is not None:
            hold_out(splits.train, validation, config.seed)
        if size := _input_size(config, member):
            weigh_views(member.views or config.views, size)
        if isinstance(member.source, ImportedSource):
            raise ConfigError(
                f"the predictions of {member.name!r} were imported: there is no network to run. "
                "`ensemble search` works on them as they are."
            )


def check_bases(config: RunConfig, heads: Mapping[str, str | None]) -> None:
    """Refuse a config of sub-classifiers where no member can be fine-tuned into one.

    Args:
        config: The settings of the run.
        heads: The last linear layer of each imported member, by name; empty where there is none, and
            None where it is not known. Members that a recipe trains have one.

    Raises:
        ConfigError: The base in the settings, or every member, has no last linear layer.
    """
    subclassifiers = config.subclassifiers
    if subclassifiers is None:
        return
    without = [name for name, head in heads.items() if head == ""]
    if subclassifiers.base in without:
        raise ConfigError(
            f"subclassifiers.base is {subclassifiers.base!r}, which has no last linear layer that can "
            "be fine-tuned. Expected a member that ends in one, as programs (onnx, pt2) do not; name "
            "another, or leave subclassifiers out."
        )
    if len(without) == len(config.members):
        raise ConfigError(
            "no member can be fine-tuned into sub-classifiers: none has a last linear layer. Expected "
            "one that ends in it, as programs (onnx, pt2) do not; add such a member, or leave "
            "subclassifiers out."
        )


def validate(config: RunConfig) -> tuple[str, ...]:
    """Find what a run would refuse before it computes anything. Decodes no image, and fetches nothing.

    Returns:
        What could not be looked at, in sentences.

    Raises:
        ConfigError: A run would refuse the config; the message lists every reason that was found.
        DataError: The images cannot be listed or split.
    """
    source = config.image_source
    if getattr(source, "download", False):
        try:
            source = source.model_copy(update={"download": False})
            splits = split(open_source(source).index(), config.images.split, config.seed)
        except ConfigError:
            return ("the images are not here: the run fetches them, and checks the rest then",)
    else:
        splits = split(open_source(source).index(), config.images.split, config.seed)
    check_settings(config, splits)
    faults, heads, notes = _examine_members(config, splits)
    start_faults, start_notes = _examine_starts(config)
    faults, notes = [*faults, *start_faults], (*notes, *start_notes)
    if not faults:
        check_bases(config, heads)
    if faults:
        raise ConfigError("\n".join(faults))
    return notes


def _examine_members(
    config: RunConfig, splits: Splits
) -> tuple[list[str], dict[str, str | None], tuple[str, ...]]:
    imported = [m for m in config.members if not isinstance(m.source, RecipeSource)]
    if not imported:
        return [], {}, ()
    # Here, because it imports torch.
    from ensemble.pretrained.import_member import examine_member

    faults, heads, notes = list[str](), dict[str, str | None](), list[str]()
    for member in imported:
        if str(getattr(member.source, "path", "")).startswith(S3_SCHEME):
            heads[member.name] = None
        else:
            try:
                heads[member.name] = examine_member(member, splits.test.classes, config.weights)
            except CheckpointError as error:
                faults.append(f"the member {member.name!r} cannot be loaded: {error}")
                continue
            except ProjectError as error:
                faults.append(str(error))
                continue
        if heads[member.name] is None:
            notes.append(f"the weights of {member.name!r} are not here: the run fetches them")
    return faults, heads, tuple(notes)


def _examine_starts(config: RunConfig) -> tuple[list[str], tuple[str, ...]]:
    """Look at published weights that trainings start from, as far as they are here."""
    faults, notes = list[str](), list[str]()
    for member in config.members:
        source = member.source
        if not isinstance(source, RecipeSource) or source.start is None:
            continue
        start = source.start
        if isinstance(start, MemberSource):
            continue
        from ensemble.pretrained.import_member import examine_start

        try:
            known = examine_start(member.name, start, member.preprocessing, config.weights)
            if known.preprocessing is not None:
                weigh_views(member.views or config.views, known.preprocessing.size)
                check_crop(config, member, known.preprocessing.size)
            if not known.is_present(config.weights):
                notes.append(
                    f"the weights that {member.name!r} starts from are not here: the run fetches them"
                )
            if source.take is None and source.architecture not in (None, known.architecture):
                faults.append(
                    f"the member {member.name!r} is {source.architecture}, and its start is "
                    f"{known.architecture}. Leave architecture out, or set take: {{first: 4}} for the layers "
                    "that both have."
                )
        except ProjectError as error:
            faults.append(f"the member {member.name!r} cannot start from these weights: {error}")
    return faults, tuple(notes)


def check_crop(config: RunConfig, member: MemberConfig, size: int) -> None:
    """Refuse a member whose recipe cuts its images out of too small a short side.

    Raises:
        ConfigError: The smallest short side is less than the side of the input, in pixels.
    """
    if not isinstance(member.source, RecipeSource):
        return
    crop = config.recipes[member.source.recipe].crop
    if isinstance(crop, RandomCropConfig):
        try:
            crop.check_size(size)
        except ValueError as error:
            raise ConfigError(
                f"recipes.{member.source.recipe} of {member.name!r}: {error}"
            ) from error


def _input_size(config: RunConfig, member: MemberConfig) -> int | None:
    """Side of a member's input in pixels, where its recipe says it before any file is opened."""
    if not isinstance(member.source, RecipeSource) or member.source.start is not None:
        return None
    return config.recipes[member.source.recipe].input_size
