from dataclasses import replace

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from svp_lightning.errors import DataError
from svp_lightning.evaluation.comparison import Difference
from svp_lightning.evaluation.counting import precision_recall as curve_of
from svp_lightning.evaluation.particle_counts import ALL
from svp_lightning.evaluation.schema import Results
from svp_lightning.report.arms import Cell
from svp_lightning.report.figures.curves import precision_recall
from svp_lightning.report.figures.diagnostics import confusion, training_curves
from svp_lightning.report.figures.effects import augmentation_effect, differences_from_control
from svp_lightning.report.figures.sheets import (
    GAP_PX,
    WHITE,
    class_rows,
    contact_sheet,
    mosaic,
    worst_mistakes,
)
from svp_lightning.report.figures.size_distribution import size_distribution
from svp_lightning.report.study_runs import Group, Run
from svp_lightning.report.style import (
    KNOWN_CLASS_COLOURS,
    class_colours,
    legend_below,
    new_figure,
)

from .made_up import made_up_results

SEVEN = ("protein", "silicone_oil", "air_bubble", "fibre", "glass", "steel", "cellulose")


def images(n: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size), dtype=np.uint8)


def scores(k: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(k)
    labels = np.arange(n) % k
    raw = rng.normal(size=(n, k)).round(1)  # rounded: ties must be handled
    raw[np.arange(n), labels] += 2
    return labels, np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True)


def drawn(figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


def colours(figure) -> set[str]:
    red, green, blue = np.moveaxis(drawn(figure)[..., :3].astype(np.int64), -1, 0)
    return {f"#{colour:06x}" for colour in np.unique(red << 16 | green << 8 | blue)}


def texts(figure) -> list[str]:
    figure.canvas.draw()
    found = list(figure.texts)
    for axes in figure.axes:
        found += [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels()]
    return [text.get_text() for text in found]


@pytest.mark.parametrize("k", [2, 3, 7])
def test_every_class_figure_draws(k):
    names = SEVEN[:k]
    labels, probability = scores(k)
    matrix = np.bincount(labels * k + probability.argmax(1), minlength=k * k).reshape(k, k)
    given = [names[i % k] for i in range(5)]
    of_classes = {colour.lower() for colour in class_colours(names).values()}
    for scale in ("linear", "log"):
        assert of_classes <= colours(precision_recall(labels, probability, names, scale=scale))
    mistakes = worst_mistakes(images(5), given, given[::-1], np.linspace(0.5, 1, 5), names)
    assert {class_colours(names)[name].lower() for name in given} <= colours(mistakes)
    drawn(confusion(matrix, names))
    drawn(class_rows([[images(4)] for _ in names], names, 4, column_labels=list("abcd")))


def test_a_class_without_images_has_no_curve():
    labels, probability = scores(3)
    figure = precision_recall(np.minimum(labels, 1), probability, SEVEN[:3])
    assert {"Protein", "Silicone oil"} <= {t.get_text() for t in figure.legends[0].get_texts()}
    assert "Air bubble" not in {t.get_text() for t in figure.legends[0].get_texts()}


def test_a_perfect_classifier_draws_and_prevalence_moves_the_curve():
    labels, probability = scores(2)
    rare = np.where(labels == 0, 1000.0, 1.0)
    for scale in ("linear", "log"):
        perfect = precision_recall(np.arange(20) % 2, np.eye(2)[np.arange(20) % 2], SEVEN[:2],
                                   scale=scale)  # fmt: skip
        flat = precision_recall(labels, probability, SEVEN[:2], scale=scale)
        weighted = precision_recall(labels, probability, SEVEN[:2], weights=rare, scale=scale)
        drawn(perfect)
        lines = [figure.axes[0].lines[0].get_ydata() for figure in (flat, weighted)]
        assert not np.array_equal(*lines)


def test_few_points_show_a_curve_of_half_a_million_thresholds():
    """Nearly all of them lie where the whole rare class has been found."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [500_000, 500])
    rare = 1 / (1 + np.exp(-rng.normal(np.where(labels == 1, 5.0, 0.0)) * 3))
    figure = precision_recall(labels, np.stack([1 - rare, rare], 1), ("protein", "silicone_oil"))
    precision, recall, _ = curve_of(labels == 1, rare)
    line = next(one for one in figure.axes[0].get_lines() if "oil" in str(one.get_label()))
    assert len(line.get_xdata()) <= 2000
    shown, levels = set(zip(*line.get_data(), strict=True)), np.unique(recall)
    first, after = (np.searchsorted(recall, levels, side) for side in ("left", "right"))
    for ends in (first, after - 1):
        assert set(zip(levels, precision[ends], strict=True)) <= shown


def test_each_of_the_few_large_particles_is_a_step():
    sizes = np.random.default_rng(0).lognormal(1.0, 0.7, 100_000)
    none = pd.DataFrame(columns=["class", "min_size_um", "value", "low", "high"], dtype=float)
    figure = size_distribution({ALL: sizes}, ("protein",), none, {}, 2.0, "µm", "per mL")
    x, y = figure.axes[0].get_lines()[0].get_data()
    assert len(x) <= 1000
    assert x[-50:].tolist() == np.sort(sizes)[-50:].tolist()
    assert y[-50:].tolist() == (2.0 * np.arange(50, 0, -1)).tolist()
    assert (x[0], y[0]) == (sizes.min(), 200_000)


def test_confusion_shows_counts_and_row_shares():
    found = texts(confusion(np.array([[9_999, 1], [0, 0]]), ("protein", "glass")))
    assert "9,999\n99.9 %" not in found  # a count of 9,999 of 10,000 is 99.99 %
    assert any(text.startswith("9,999\n") for text in found)
    assert "1\n0.01 %" in found


def test_mosaic_puts_each_image_in_its_place():
    tiles = images(5, 4)
    sheet = mosaic(tiles, columns=3, zoom=2)
    assert sheet.shape == (2 * 8 + GAP_PX, 3 * 8 + 2 * GAP_PX)
    for i, tile in enumerate(tiles):
        top, left = (i // 3) * (8 + GAP_PX), (i % 3) * (8 + GAP_PX)
        assert (sheet[top : top + 8 : 2, left : left + 8 : 2] == tile).all()
    assert (sheet[8 + GAP_PX :, 2 * (8 + GAP_PX) :] == WHITE).all()


def test_contact_sheet_shows_pixels_unchanged():
    tile = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    figure = contact_sheet({"Real": tile}, columns=1)
    shown = {tuple(pixel[:3]) for pixel in drawn(figure).reshape(-1, 4)}
    assert {(g, g, g) for g in range(256)} <= shown


def test_scale_bar_only_where_the_pixel_size_is_known():
    panels = {"Real": images(4), "Generated": images(7)}
    known = texts(contact_sheet(panels, columns=4, title="silicone_oil", pixel_size_um=0.7))
    assert "10 µm" in known  # the longest round length within 16 px × 0.7 µm
    assert "Silicone oil" in known
    assert any("n = 7" in text for text in known)
    assert not any("µm" in text for text in texts(contact_sheet(panels, columns=4)))


def test_certainty_is_never_rounded_up_and_no_mistake_is_said():
    none = worst_mistakes(images(0), [], [], np.zeros(0), SEVEN[:2])
    assert any("No mistakes" in text for text in texts(none))
    figure = worst_mistakes(images(1), ["protein"], ["glass"], np.array([0.99999]), SEVEN)
    assert any("> 99.9 %" in text for text in texts(figure))


def test_classes_keep_their_colours():
    assert len(set(class_colours(SEVEN).values())) == len(SEVEN)
    for names in (SEVEN, SEVEN[::-1], ("glass", "silicone_oil")):
        assert class_colours(names)["silicone_oil"] == KNOWN_CLASS_COLOURS["silicone_oil"]


def group(method: str, ratio: float = 0.0, backbone: str = "net0", value: float = 0.8) -> Group:
    """One run of an arm."""
    parts = () if method == "none" else (method,)
    cell = Cell(backbone, method, ratio, 1, parts)
    values = made_up_results(method=method, ratio=ratio, auprc=value)
    return Group(cell, (Run(None, Results.model_validate(values), cell),))


def grid(backbones: int, ratios: int) -> list[Group]:
    return [
        group("diffusion" if r else "none", float(r), f"net{b}", 0.8 + r / 100)
        for b in range(backbones)
        for r in range(ratios)
    ]


@pytest.mark.parametrize(("backbones", "ratios"), [(1, 1), (1, 2), (6, 6)])
def test_augmentation_effect_from_one_cell_to_36(backbones, ratios):
    figure = augmentation_effect(grid(backbones, ratios), ["macro_auprc"])
    assert len(figure.axes) == backbones
    for axes in figure.axes:
        (control,) = (line for line in axes.lines if line.get_linestyle() == "--")
        assert control.get_ydata()[0] == 0.8
        treated = [line for line in axes.lines if line.get_marker() == "o"]
        drawn_values = [y for line in treated for y in line.get_ydata()]
        assert drawn_values == pytest.approx([0.8 + r / 100 for r in range(1, ratios)])
    drawn(figure)


def test_augmentation_effect_of_known_and_unknown_arms_without_a_control():
    arms = [group("diffusion", 1.0), group("class_weights"), group("my_method")]
    found = texts(augmentation_effect(arms, ["macro_auprc", "macro_f1"]))
    assert {"1×", "Class\nweights", "My\nmethod"} <= set(found)


def test_many_arms_keep_their_names_apart():
    names = ("class_weights", "mixup", "logit_adjustment", "balanced_sampling", "classical")
    figure = augmentation_effect([*map(group, names), *grid(1, 2)], ["macro_auprc"])
    figure.canvas.draw()
    labels = [label for label in figure.axes[0].get_xticklabels() if label.get_text()]
    assert len(labels) == len(names) + 1
    feet = sorted(label.get_window_extent().x1 for label in labels)
    assert min(np.diff(feet)) > 10
    colours = {line.get_color() for line in figure.axes[0].lines if line.get_linestyle() != "--"}
    assert len(colours) == len(names) + 1


def test_a_legend_of_long_names_stays_within_the_figure():
    figure = new_figure(6, 3)
    axes = figure.subplots()
    for k in range(7):
        axes.plot([k, k + 1], label=f"Diffusion from physics, simulated, hard negatives {k}")
    legend_below(figure)
    drawn(figure)
    (legend,) = figure.legends
    assert len(legend.get_texts()) == 7
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_differences_are_in_the_order_given_and_say_which_count():
    def both(value, half, p):
        one = Difference("", value, value - half, value + half, tuple(range(5)), p_adjusted=p)
        return tuple(replace(one, metric=metric) for metric in ("macro_auprc", "accuracy"))

    arms = {"Better": both(0.05, 0.03, 0.01), "Same": both(0.0, 0.01, 0.9),
            "No interval": (Difference("macro_auprc", -0.1),) * 2}  # fmt: skip
    figure = differences_from_control(arms)
    assert len(figure.axes) == 2
    axes = figure.axes[0]
    rows = {label.get_text(): label.get_position()[1] for label in axes.get_yticklabels()}
    assert rows["Better"] > rows["Same"] > rows["No interval"]
    dots = {tuple(line.get_xydata()[0]): line for line in axes.lines if line.get_marker() == "o"}
    assert set(dots) == {(5.0, rows["Better"]), (0.0, rows["Same"]), (-10.0, rows["No interval"])}
    filled = {at for at, dot in dots.items() if dot.get_markerfacecolor() != "white"}
    assert filled == {(5.0, rows["Better"])}


def test_numbers_of_neighbouring_panels_stand_apart():
    metrics = ("macro_auprc", "macro_precision", "protein/precision", "protein/recall")
    for widths in ((0.07, 0.0001, 0.095, 0.07), (0.1, 0.002, 1, 1e-5), (0.0375, 0.1, 1e-5, 0.5)):
        pairs = zip(metrics, widths, strict=True)
        figure = differences_from_control({"Arm": [Difference(m, 0, -w, w) for m, w in pairs]})
        drawn(figure)
        end = -float("inf")
        for axes in figure.axes:
            left, right = axes.get_xlim()
            shown = [t for t in axes.get_xticklabels() if left <= t.get_position()[0] <= right]
            for box in (label.get_window_extent() for label in shown):
                assert box.x0 > end + 15
                end = box.x1
        assert end < figure.bbox.width - 10  # letters of a browser are wider


def test_training_curves_from_a_lightning_log():
    log = pd.DataFrame(
        {
            "epoch": [0, 0, 1, 1],
            "step": [5, 5, 10, 10],
            "train/loss": [1.0, None, 0.5, None],
            "train_loss_step": [1.0, None, 0.5, None],
            "val/loss": [None, 1.1, None, 0.7],
            "val/macro_auprc": [None, 0.6, None, 0.8],
            "train/lr": [0.1, None, 0.1, None],
        }
    )
    figure = training_curves(log)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "Loss"
    assert len([title for title in titles if title]) == 2
    loss = figure.axes[0].get_lines()
    assert [line.get_ydata().tolist() for line in loss] == [[1.0, 0.5], [1.1, 0.7]]
    assert loss[1].get_xdata().tolist() == [6, 11]  # the log counts steps from 0
    assert {axes.get_xlabel() for axes in figure.axes} - {""} == {"Optimiser steps"}


def test_training_log_without_metrics():
    with pytest.raises(DataError, match="no train or val metric"):
        training_curves(pd.DataFrame({"epoch": [1], "lr": [0.1]}))


def test_figures_leave_global_state_alone():
    before = dict(mpl.rcParams)
    drawn(confusion(np.eye(2, dtype=int), SEVEN[:2]))
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []
