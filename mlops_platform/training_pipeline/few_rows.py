"""A few rows through XGBoost's trees: the trees as an ONNX graph, which ONNX Runtime walks without a call's fixed cost.

One row takes XGBoost 170 µs, of which 169 are for getting started, and ONNX Runtime 7 µs; from some 100 rows on XGBoost
is faster. The graph gives the bits of XGBoost's float32 sum: the base margin stands in it as the first tree, because a
sum of floats depends on its order. Does not belong here: which of both scores (`serving_form.py`).
"""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_platform.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Up to so many rows ONNX Runtime is the faster one.
FEW_ROWS = 100
_INPUT, _OUTPUT = "matrix", "margin"
_NODE = (
    "nodes_treeids", "nodes_nodeids", "nodes_modes", "nodes_featureids", "nodes_values", "nodes_truenodeids",
    "nodes_falsenodeids", "nodes_missing_value_tracks_true",
)  # fmt: skip
_LEAF = ("target_treeids", "target_nodeids", "target_ids", "target_weights")
_ML_DOMAIN, _ML_VERSION, _VERSION, _IR_VERSION = "ai.onnx.ml", 1, 15, 8


class FewRows:
    """The trees of a booster, for few rows at a time.

    Args:
        model: The graph, as `graph_of` made it.

    Raises:
        ModelError: It is no such graph.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        self.model = model
        options = onnxruntime.SessionOptions()
        # Threads would add the trees up in another order.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no other base in common.
            raise ModelError(f"the trees' ONNX graph can't be read: {error}", hint="train again.") from error

    def margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float32]:
        """Log-odds of 1, shape (n,), of a matrix of shape (n, columns)."""
        found: NDArray[np.float32] = self._session.run(None, {_INPUT: matrix.astype(np.float32)})[0][:, 0]
        return found


def graph_of(booster: Any) -> bytes | None:
    """The trees of a binary booster as an ONNX model, from `matrix` (n, columns) to `margin` (n, 1), float32.

    Made from XGBoost's JSON model, whose schema its documentation gives ("Introduction to Model IO"): in a leaf,
    `split_conditions` holds what the tree adds.

    Returns:
        None where the booster is more than a sum of trees (`dart`, `gblinear`).
    """
    from onnx import TensorProto, helper

    document = json.loads(booster.save_raw("json"))
    learner = document["learner"]["gradient_booster"]
    if learner["name"] != "gbtree":
        return None
    nodes: dict[str, list[Any]] = {name: [] for name in (*_NODE, *_LEAF)}
    base = _base_margin(copy.deepcopy(document), booster.num_features())
    for number, tree in enumerate([{"left_children": [-1], "split_conditions": [base]}, *learner["model"]["trees"]]):
        _add_tree(nodes, number, tree)
    inputs = [helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, [None, booster.num_features()])]
    outputs = [helper.make_tensor_value_info(_OUTPUT, TensorProto.FLOAT, [None, 1])]
    ensemble: dict[str, Any] = {"n_targets": 1, "post_transform": "NONE", **nodes}
    node = helper.make_node("TreeEnsembleRegressor", [_INPUT], [_OUTPUT], domain=_ML_DOMAIN, **ensemble)
    graph = helper.make_graph([node], "trees", inputs, outputs)
    versions = [helper.make_opsetid(_ML_DOMAIN, _ML_VERSION), helper.make_opsetid("", _VERSION)]
    made: bytes = helper.make_model(graph, opset_imports=versions, ir_version=_IR_VERSION).SerializeToString()
    return made


def _add_tree(nodes: dict[str, list[Any]], number: int, tree: dict[str, list[Any]]) -> None:
    for node, (left, value) in enumerate(zip(tree["left_children"], tree["split_conditions"], strict=True)):
        is_leaf = left == -1
        row: tuple[Any, ...] = (number, node, b"LEAF", 0, 0.0, 0, 0, 0)
        if not is_leaf:
            feature, right = tree["split_indices"][node], tree["right_children"][node]
            row = (number, node, b"BRANCH_LT", feature, value, left, right, tree["default_left"][node])
        for name, cell in zip(_NODE, row, strict=True):
            nodes[name].append(cell)
        if is_leaf:
            for name, cell in zip(_LEAF, (number, node, 0, value), strict=True):
                nodes[name].append(cell)


def _base_margin(document: dict[str, Any], columns: int) -> float:
    """What XGBoost adds the trees to: its own answer, once every leaf is 0."""
    from xgboost import Booster

    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        pairs = zip(tree["left_children"], tree["split_conditions"], strict=True)
        tree["split_conditions"] = [0.0 if left == -1 else condition for left, condition in pairs]
    empty = Booster(model_file=bytearray(json.dumps(document).encode()))
    return float(empty.inplace_predict(np.zeros((1, columns)), predict_type="margin")[0])
