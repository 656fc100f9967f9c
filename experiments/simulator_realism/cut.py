"""Cut the real crops out of the figure of the paper's repository.

    python experiments/simulator_realism/cut.py --figure real_generated.png --out FOLDER

The figure (882 x 705 px) is ``examples/real_generated.png`` of utkuozbulak/svp-generative-ai
(CC BY-NC-SA 4.0). Crops are numbered along its rows and scaled from about 43 px to 64.
"""

import argparse
from pathlib import Path

from crops import REAL_FOLDERS
from PIL import Image

from svp_lightning.data.classes import AIR_BUBBLE, SILICONE_OIL

FIGURE_PX = (882, 705)
LEFT, WIDTH, HEIGHT = 10, 427, 299
TOPS = {AIR_BUBBLE: 7, SILICONE_OIL: 363}
"""Where the panels of real images lie in the figure, in pixels."""
ROWS, COLUMNS = 7, 10
CROP_PX = 64


def main() -> None:
    """Write 70 files per class."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figure", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    figure = Image.open(arguments.figure).convert("L")
    if figure.size != FIGURE_PX:
        raise SystemExit(f"{arguments.figure} is {figure.size} pixels, not {FIGURE_PX}.")
    width, height = WIDTH / COLUMNS, HEIGHT / ROWS
    for name, top in TOPS.items():
        folder = arguments.out / REAL_FOLDERS[name]
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(ROWS * COLUMNS):
            row, column = divmod(number, COLUMNS)
            left, right = (round(LEFT + width * edge) for edge in (column, column + 1))
            upper, lower = (round(top + height * edge) for edge in (row, row + 1))
            box = (left, upper, right, lower)
            crop = figure.crop(box).resize((CROP_PX, CROP_PX), Image.Resampling.BICUBIC)
            crop.save(folder / f"{number:02d}.png")


if __name__ == "__main__":
    main()
