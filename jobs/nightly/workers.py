"""The machines of a night: artifacts, runs, and forward passes on Ray where predictions are missing."""

from dataclasses import dataclass, replace
from pathlib import Path

from cluster.pool.pool import open_pool
from ensemble.artifact.document import ArtifactDocument
from ensemble.artifact.fetch import fetch
from ensemble.artifact.read import Artifact, read, read_document
from ensemble.config import S3_SCHEME
from ensemble.errors import DataError
from ensemble.files import sha256_of
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.images.shard import ShardSpec, plan_shards
from ensemble.images.split import held_out, split
from ensemble.inference.costs import CostCache
from ensemble.members.identity import fingerprint, library_versions
from ensemble.members.member import Member
from ensemble.report.documents.run import Report
from ensemble.storage.fetch import FetchedFolder
from ensemble.storage.open import open_store
from ensemble.storage.store import Store, read_if_there
from ensemble.table.logit_table import LogitTable
from jobs.console import open_console
from jobs.nightly.candidate import CanaryRun, Candidate, Say, deployment_of
from jobs.nightly.suite import RowConfig, SuiteConfig
from jobs.run.predict import list_unpredicted
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder, costs_in, open_run_folder
from jobs.stored_runs.revision import read_revision
from jobs.stored_runs.tables import table_store
from jobs.submit import needed_paths


@dataclass(frozen=True)
class _Loaded:
    """An artifact on this machine.

    Attributes:
        document: Its document.
        artifact: Its networks' headers.
        copy: The temporary copy of an artifact on S3, which lives as long as this.
    """

    document: ArtifactDocument
    artifact: Artifact
    copy: FetchedFolder | None = None


class RayWorkers:
    """Does the runs that rows name, and predicts what is missing; Ray starts only where something is.

    Args:
        suite: The suite.
    """

    def __init__(self, suite: SuiteConfig) -> None:
        self._suite = suite
        self._runs_of: dict[str, Store] = {}
        self._copies: list[FetchedFolder] = []

    def candidate(self, row: RowConfig, say: Say) -> Candidate:
        """Find the deployed ensemble of a row and its images; see `Workers.candidate`."""
        place, notes = row.artifact, tuple[str, ...]()
        if row.run is not None:
            folder, notes = self._do_run(row, row.run, say)
            place = place or str(folder.artifact)
        assert place is not None
        return self._candidate(row, place, notes)

    def reference(self, row: RowConfig, say: Say) -> Candidate:
        """Find the pinned reference of a stream; see `Workers.reference`."""
        assert row.stream is not None
        return self._candidate(row, row.stream.reference)

    def fill(self, table: LogitTable, row: RowConfig, candidate: Candidate, ids: list[str]) -> int:
        """Compute what the table lacks; see `Workers.fill`.

        Raises:
            PartialError: Blocks killed their worker every time.
        """
        members = list(candidate.members.values())
        self._adopt(table, row, members, ids)
        shards = plan_shards(ids, self._suite.cluster.shard_images)
        work: list[tuple[ShardSpec, list[Member]]] = []
        for spec in shards:
            lacking = [m for m in members if table.missing(m.column, spec.image_ids)]
            if lacking:
                work.append((spec, lacking))
        if not work:
            return 0
        passes, costs = 0, CostCache(costs_in(self._suite.runs))
        with open_pool(self._suite.cluster, self._suite.source_of(row), costs) as pool:
            for member, block in pool.predict(work):
                table.commit(member, block)
                passes += block.forward_passes
            list_unpredicted(pool.quarantined, allow_partial=False)
        return passes

    def canary(self, candidate: Candidate, member: str, images: ImageIndex) -> CanaryRun:
        """Predict a few images in this process; see `Workers.canary`."""
        # Here, because torch takes seconds to import.
        from ensemble.checkpoints.load import load_network
        from ensemble.images.shard import ImageShard
        from ensemble.inference.device import open_device
        from ensemble.inference.forward import PreparedNetwork
        from ensemble.inference.predict import predict

        if candidate.decode is None:
            raise DataError("the images of this row are only listed, so nothing can be predicted.")
        ids = images.image_ids.tolist()
        shard = ImageShard.pack(ids, [candidate.decode(image_id) for image_id in ids])
        chosen = candidate.members[member]
        device = open_device("cpu")
        network = PreparedNetwork(load_network(chosen).to(device), chosen.precision).eval()
        # The bits of an image are those of the table only if a batch is full, as the table's were.
        block = predict(network, chosen, shard, device, pads_batches=True)
        return CanaryRun(
            member,
            images,
            block.log_probabilities,
            block.device_kind or "cpu",
            block.seconds,
            block.forward_passes,
        )

    def _do_run(
        self, row: RowConfig, config: RunConfig, say: Say
    ) -> tuple[RunFolder, tuple[str, ...]]:
        """Do the run of a row, unless nothing that it depends on has changed since it was done."""
        folder = open_run_folder(config, row.name)
        self._runs_of[row.name] = table_store(config, folder.path)
        files = open_store(self._suite.folder, self._suite.storage)
        stamp, state = f"runs/{row.name}.txt", _state_of(config).encode()
        if folder.report_json.exists() and read_if_there(files, stamp) == state:
            say(f"{row.name}: the run {folder.path} is as it was")
        else:
            # Here, because the flow of a run imports all of Ray's side.
            from jobs.run.flow import run
            from jobs.run.job import RunOptions

            run(config, folder, open_console(stderr=True), RunOptions())
            files.replace(stamp, state)
        if row.artifact is None:
            return folder, ()
        report = Report.model_validate_json(folder.report_json.read_bytes())
        best = report.answering
        return folder, (
            f"proposal: the run {folder.path.name} recommends {best.label}, with "
            f"{report.error(best.score):.2%} top-{report.k} error on its {best.score.n} test images",
        )

    def _candidate(self, row: RowConfig, place: str, notes: tuple[str, ...] = ()) -> Candidate:
        loaded = self._load(row, place)
        source = open_source(self._suite.source_of(row))
        index = source.index()
        if index.classes != loaded.document.classes:
            raise DataError(
                f"the images of the row {row.name!r} have the classes {_some(index.classes)}, and the ensemble "
                f"{place!r} answers {_some(loaded.document.classes)}. Expected the same, in the same order: give "
                "the images that belong to the ensemble."
            )
        # Predictions belong to the images that they are of.
        data = index.sha256
        artifact = replace(
            loaded.artifact,
            members=tuple(replace(m, data_sha256=data) for m in loaded.artifact.members),
            lead=loaded.artifact.lead and replace(loaded.artifact.lead, data_sha256=data),
            routing=loaded.artifact.routing
            and replace(
                loaded.artifact.routing,
                subclassifiers={
                    number: replace(member, data_sha256=data)
                    for number, member in loaded.artifact.routing.subclassifiers.items()
                },
            ),
        )
        deployment, members = deployment_of(loaded.document, artifact)
        images = held_out(index) if row.images else _test_split(row, index)
        return Candidate(deployment, members, images, source.decode, notes)

    def _load(self, row: RowConfig, place: str) -> _Loaded:
        if place.startswith(S3_SCHEME):
            copy = fetch(place, self._suite.storage)
            self._copies.append(copy)  # networks are loaded from it later
            folder = copy.path
        else:
            copy, folder = None, Path(place)
        document = read_document(folder)
        return _Loaded(document, read(folder, trust_code=row.trust_code), copy)

    def _adopt(
        self, table: LogitTable, row: RowConfig, members: list[Member], ids: list[str]
    ) -> None:
        """Copy what the row's own run has predicted."""
        store = self._runs_of.get(row.name)
        lacking = {m.column: m for m in members if table.missing(m.column, ids)}
        if store is None or not lacking:
            return
        for commit in LogitTable(store).commits():
            if commit.column in lacking:
                table.adopt(lacking[commit.column], commit, store)


def _state_of(config: RunConfig) -> str:
    """Hash what the results of a run depend on: settings, images, files of weights, libraries, code."""
    files = [Path(path) for path in needed_paths(config)]
    index = open_source(config.image_source).index()
    return fingerprint(
        [
            config.identity,
            index.sha256,
            {str(path): sha256_of(path) for path in files if path.is_file()},
            [library_versions(library) for library in ("timm", "onnx")],
            read_revision().model_dump(),
        ]
    )


def _test_split(row: RowConfig, index: ImageIndex) -> ImageIndex:
    assert row.run is not None
    return split(index, row.run.images.split, row.run.seed).test


def _some(classes: tuple[str, ...]) -> str:
    named = ", ".join(map(repr, classes[:5]))
    return f"{named}{' …' if len(classes) > 5 else ''} ({len(classes)})"
