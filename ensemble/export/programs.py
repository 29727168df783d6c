"""The weighted ensemble as one program: torch.export (.pt2) and ONNX."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ensemble.errors import ConfigError
from ensemble.export.parity import Batch, Check, Size
from ensemble.files import partial_file, publish
from ensemble.predictor import Predictor

if TYPE_CHECKING:
    import onnx
    import torch

_INPUT, _OUTPUT, _OPSET = "images", "probabilities", 20


def export_pt2(predictor: Predictor, path: Path, check: Check, size: Size) -> float:
    """Write a program of torch.export, and check the written file before it is kept.

    It takes `images`, float32 `[image, 3, height, width]` of RGB pixels in [0, 1], any number of them,
    and gives probabilities. Names of the classes are in its extra file `classes.json`.

    Returns:
        The largest difference of a probability to the predictor's.

    Raises:
        ConfigError: The ensemble cannot become one program.
        CheckpointError: The written program answers otherwise than the predictor.
        OSError: The file cannot be written.
    """
    import torch

    with _quiet():
        program = _traced(predictor, size)
        with _checked(path) as part:
            extra = {"classes.json": json.dumps(predictor.classes)}
            torch.export.save(program, part, extra_files=extra)
            loaded = torch.export.load(part).module()

            def run(batch: Batch) -> np.ndarray:
                with torch.inference_mode():
                    return loaded(torch.from_numpy(batch.copy())).numpy()

            return check.run(run, path.name)


def export_onnx(predictor: Predictor, path: Path, check: Check, size: Size) -> float:
    """Write an ONNX graph, and check the written file with onnxruntime before it is kept.

    It takes and gives what `export_pt2` does; names of the classes are in its metadata `classes`.

    Returns:
        The largest difference of a probability to the predictor's.

    Raises:
        ConfigError: The ensemble cannot become one program, or the extra `onnx` is not installed.
        CheckpointError: The written program answers otherwise than the predictor.
        OSError: The file cannot be written.
    """
    _need_onnx()
    import onnx
    import onnxruntime
    import torch

    with _quiet():
        program = _traced(predictor, size)
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=[_INPUT],
            output_names=[_OUTPUT],
            # onnxscript's folding of constants takes shapes of views for others; onnxruntime folds them itself.
            optimize=False,
        )
        assert exported is not None
        with _checked(path) as part:
            model = exported.model_proto
            entry = model.metadata_props.add()
            entry.key, entry.value = "classes", json.dumps(predictor.classes)
            # Shapes of values inside, which the exporter notes, and not always rightly.
            del model.graph.value_info[:]
            _save_onnx(model, part)
            onnx.checker.check_model(str(part))
            session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
            name = session.get_inputs()[0].name
            return check.run(lambda batch: session.run(None, {name: batch})[0], path.name)


def _traced(predictor: Predictor, size: Size) -> "torch.export.ExportedProgram":
    import torch

    module = predictor.module()
    example = torch.zeros(2, 3, *size)
    batch = torch.export.Dim("batch", min=1)
    try:
        return torch.export.export(module, (example,), dynamic_shapes={_INPUT: {0: batch}})
    # What torch raises of a network that it cannot trace, or whose batch it finds to be fixed.
    except (RuntimeError, ValueError, torch._dynamo.exc.TorchDynamoException) as error:
        raise ConfigError(
            f"the ensemble cannot become one program: {str(error).strip().splitlines()[0]}. Leave the member "
            "out that torch.export does not know, or use the artifact as it is."
        ) from error


def _need_onnx() -> None:
    lacking = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if lacking:
        raise ConfigError(
            f"an ONNX graph needs {', '.join(lacking)}, which is not installed: pip install -e '.[onnx]'."
        )


def _save_onnx(model: "onnx.ModelProto", path: Path) -> None:
    import onnx

    if model.ByteSize() < 1 << 31:
        onnx.save(model, path)
        return
    raise ConfigError(
        f"the graph has {model.ByteSize():,} bytes, and an ONNX file holds 2 GiB. Take --to pt2, or search an "
        "ensemble of fewer parameters with max_cost."
    )


@contextmanager
def _checked(path: Path) -> Iterator[Path]:
    """Give the name of a file beside a path, which gets the path's name if all goes well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with partial_file(path.parent) as file:
        # The suffix tells torch and onnx what it is.
        part = Path(f"{file.name}{path.suffix}")
        try:
            yield part
            with part.open("rb") as written:
                while piece := written.read(1 << 24):
                    file.write(piece)
            publish(file, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what exporters tell of their own insides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
