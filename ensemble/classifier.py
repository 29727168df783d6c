"""An ensemble in scikit-learn's manner: a pool of classifiers, `fit` to labelled images, `predict`.

The classifiers of the pool are trained already; `fit` searches their weights. So the images it is given
must be ones that none of them was trained on, as a validation split.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from ensemble.errors import ConfigError, DecodeError, ShapeError
from ensemble.evaluation import metrics
from ensemble.images.inputs import to_pixels
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member
from ensemble.outranking.builder import OutrankingBuilder
from ensemble.outranking.weighting import Weighting
from ensemble.search.comparison import predictors
from ensemble.search.fit import fit as fit_weights
from ensemble.search.recommend import answering, recommend
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig


class MemberClassifier:
    """A member as a classifier of the pool.

    Args:
        member: The member; `ensemble.pretrained.import_member` makes one of published weights.
        device: Device that predicts, as torch names it.

    Raises:
        ConfigError: There is no such device.
        CheckpointError: The weights cannot be loaded.
    """

    def __init__(self, member: Member, device: str = "cpu") -> None:
        # Here, because torch takes seconds to import, and a pool may have none of its networks.
        from ensemble.checkpoints.load import load_network
        from ensemble.inference.device import open_device
        from ensemble.inference.forward import PreparedNetwork

        self._member, self._device = member, open_device(device)
        network = load_network(member).to(self._device)
        self._network = PreparedNetwork(network, member.precision).eval()

    def predict_proba(self, images: Any) -> Float[np.ndarray, "image class"]:
        """Predict the probabilities of images, given as `Predictor.predict` takes them.

        Raises:
            DecodeError: An image cannot be decoded, or is too thin to be resized.
        """
        from ensemble.inference.predict import predict

        pixels = to_pixels(images)
        shard = ImageShard.pack([str(number) for number in range(len(pixels))], pixels)
        block = predict(self._network, self._member, shard, self._device, pads_batches=False)
        for bad in block.bad:
            raise DecodeError(f"image {bad.image_id} cannot be predicted: {bad.reason}.")
        return np.exp(block.log_probabilities.astype(np.float64))


class EnsembleClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A weighted mean of trained classifiers, whose weights are searched on labelled images.

    With a search of kind `auto` it answers with the simplest predictor that held-out images cannot tell
    from the best, as a run's artifact does; with a named kind, with the weights of that search.

    Args:
        pool: Trained classifiers by name: a `MemberClassifier`, or anything with `predict_proba`, as
            scikit-learn's. One without `classes_` has a column for each label, in sorted order.
        search: Settings of the search; those of `SearchConfig()` if None.

    Attributes:
        classes_: The labels, sorted.
        ensemble_: The weights, and how they were found.
        weights_: Weight of each classifier that has one, by name.
    """

    def __init__(self, pool: Mapping[str, Any], search: SearchConfig | None = None) -> None:
        self.pool = pool
        self.search = search

    def fit(
        self, images: Any, labels: Sequence[Any] | Shaped[np.ndarray, "image"]
    ) -> "EnsembleClassifier":
        """Search weights.

        Args:
            images: Images that no classifier of the pool was trained on, as all of them take them.
            labels: Label of each image.

        Raises:
            ConfigError: The pool is empty, or a setting of the search is wrong.
            ShapeError: A classifier does not give a probability for each image and label.
        """
        if not self.pool:
            raise ConfigError("the pool is empty. Give at least one trained classifier, by name.")
        config = self.search or SearchConfig()
        self.classes_, indexes = np.unique(np.asarray(labels), return_inverse=True)
        builder = OutrankingBuilder(tuple(self.pool), combines=config.combines)
        builder.add(self._logs(images, tuple(self.pool)), indexes)
        table = builder.finish()
        ensemble = fit_weights(table, config)
        if config.kind == "auto":
            rows = predictors(table, config, ensemble)
            ensemble = answering(rows, recommend(table, config, ensemble), config).ensemble
        self.ensemble_: Ensemble = ensemble
        self.weights_ = {
            name: float(weight)
            for name, weight in zip(ensemble.members, ensemble.weights, strict=True)
            if weight > 0
        }
        return self

    def predict_proba(self, images: Any) -> Float[np.ndarray, "image class"]:
        """Predict the probability of each class, in the order of `classes_`.

        Only classifiers with a weight predict.
        """
        check_is_fitted(self)
        units = dict(zip(self.ensemble_.members, self.ensemble_.units.tolist(), strict=True))
        weighting = Weighting(
            np.array([units[name] for name in self.weights_]),
            self.ensemble_.combine,
            self.ensemble_.scale,
        )
        return metrics.pooled(self._logs(images, tuple(self.weights_)), weighting)

    def predict(self, images: Any) -> Shaped[np.ndarray, "image"]:
        """Predict the label of each image."""
        probabilities = self.predict_proba(images)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def _logs(self, images: Any, names: Sequence[str]) -> list[Float[np.ndarray, "image class"]]:
        with np.errstate(divide="ignore"):
            return [np.log(self._columns(name, images)) for name in names]

    def _columns(self, name: str, images: Any) -> Float[np.ndarray, "image class"]:
        """Give the probabilities of a classifier with a column for each label, in sorted order."""
        classifier = self.pool[name]
        probabilities = np.asarray(classifier.predict_proba(images), dtype=np.float64)
        theirs = getattr(classifier, "classes_", self.classes_)
        if probabilities.ndim != 2 or probabilities.shape[1] != len(theirs):
            raise ShapeError(
                f"the classifier {name!r} gives {list(probabilities.shape)}, expected a row for each image and "
                f"a column for each of {len(theirs)} labels."
            )
        # A label that it does not know has no probability; one that is not among the labels is left out.
        columns = np.zeros((len(probabilities), len(self.classes_)))
        places = {label: place for place, label in enumerate(np.asarray(theirs).tolist())}
        for index, label in enumerate(self.classes_.tolist()):
            if label in places:
                columns[:, index] = probabilities[:, places[label]]
        return columns
