"""How MLflow loads an artifact: the module that its `loader_module` names."""

from typing import Any

import numpy as np

from ensemble.predictor import Predictor, load


class MlflowModel:
    """An ensemble behind MLflow's interface.

    Args:
        predictor: The ensemble.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> np.ndarray:
        """Give the probabilities of each image.

        Args:
            model_input: Whatever `Predictor.predict` takes; or a table of one column with paths or encoded
                bytes, as MLflow's own scoring makes it.
            params: Not used.
        """
        images = model_input
        if hasattr(images, "columns"):  # a table of pandas
            images = images.iloc[:, 0].tolist()
        return self._predictor.predict(images).probabilities


def _load_pyfunc(data_path: str) -> MlflowModel:
    return MlflowModel(load(data_path))
