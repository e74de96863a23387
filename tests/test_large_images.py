"""Large images are decoded fast, in limited memory, and to nearly the pixels of a full decoding."""

import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import encoders as enc
import numpy as np
import pytest
from image_helpers import SAMPLES, STORED, decode_bytes, encoded, exif
from PIL import Image

from resnet_cli.images import colours, decode
from resnet_cli.network.preprocessing import Fit

SIZE = 224


@cache
def photo(width: int, height: int) -> Image.Image:
    """Return an enlarged photo with sensor noise."""
    image = Image.open(SAMPLES / "coffee.jpg").convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    noise = 4 * np.random.default_rng(7).standard_normal((height, width, 1), np.float32)
    return Image.fromarray((np.asarray(image) + noise.astype(np.int16)).clip(0, 255).astype(np.uint8))


def read(content: bytes, fit: Fit = Fit.CROP, size: int = SIZE) -> np.ndarray:
    return decode_bytes(content, size, fit).astype(int)


@pytest.fixture(scope="module")
def large_jpeg() -> bytes:
    return encoded(photo(4243, 2829), "JPEG", quality=90)


def test_large_photos_are_decoded_four_times_faster(large_jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(headroom: float) -> float:
        monkeypatch.setattr(decode, "HEADROOM", headroom)
        started = time.process_time()
        read(large_jpeg)
        return time.process_time() - started

    headroom = decode.HEADROOM
    ratios = [seconds(1e9) / seconds(headroom) for _ in range(5)]
    assert np.median(ratios) > 4


def test_faster_decoding_changes_little(large_jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = {fit: read(large_jpeg, fit) for fit in Fit}
    monkeypatch.setattr(decode, "HEADROOM", 1e9)
    for fit in Fit:
        assert np.abs(fast[fit] - read(large_jpeg, fit)).mean() < 1.5


@pytest.fixture(scope="module")
def upright_pixels() -> dict[Fit, np.ndarray]:
    content = encoded(photo(1605, 1203), "PPM")
    return {fit: read(content, fit) for fit in Fit}


@pytest.mark.parametrize("orientation", STORED)
def test_large_photos_become_upright(orientation: int, upright_pixels: dict[Fit, np.ndarray]) -> None:
    """No reduction divides the sides, so the box that the reduced image fills must be turned as well."""
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](np.asarray(photo(1605, 1203)))))
    content = encoded(stored, "JPEG", quality=95, exif=exif(orientation))
    for fit in Fit:
        assert np.abs(read(content, fit) - upright_pixels[fit]).mean() < 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "CMYK", "I;16", "F"])
def test_conversion_in_strips_changes_little(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photo(1005, 757).copy()
    if mode in ("I;16", "F"):
        levels = np.asarray(image.convert("L"))
        image = Image.fromarray(levels.astype(np.uint16) * 257 if mode == "I;16" else levels.astype(np.float32) / 255)
    elif mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    content = encoded(image if mode in ("I;16", "F") else image.convert(mode), "TIFF")
    cases = [(fit, size) for fit in Fit for size in (SIZE, 64)]  # only for 64 pixels are the strips reduced
    at_once = [read(content, *case) for case in cases]
    monkeypatch.setattr(colours, "LARGE_PIXELS", 1)
    monkeypatch.setattr(colours, "STRIP_PIXELS", 50_000)
    for case, expected in zip(cases, at_once, strict=True):
        assert np.abs(read(content, *case) - expected).mean() < 1.5


def test_large_images_are_decoded_within_a_budget() -> None:
    budget, running, totals = decode._PixelBudget(100 * decode.SMALL_PIXELS), [], []

    def work(pixels: int) -> None:
        with budget.reserve(pixels):
            running.append(pixels)
            totals.append(sum(running))
            time.sleep(0.002)
            running.remove(pixels)

    sizes = [factor * decode.SMALL_PIXELS for factor in (30, 90, 2, 500, 60)] * 8
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, sizes))
    assert len(totals) == len(sizes)
    assert max(total for total in totals if total < 500 * decode.SMALL_PIXELS) <= 100 * decode.SMALL_PIXELS
    assert sum(total >= 500 * decode.SMALL_PIXELS for total in totals) == 8
    assert max(totals) == 500 * decode.SMALL_PIXELS


# Memory, measured in new processes

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")


def peak_memory(*paths: Path) -> tuple[list[str], int]:
    """Decode files in parallel; return sizes or kinds of errors, and the peak memory in MiB."""
    program = """if True:
        import sys
        from concurrent.futures import ThreadPoolExecutor
        from pathlib import Path
        from resnet_cli.errors import ImageError
        from resnet_cli.images import decode
        from resnet_cli.network.preprocessing import Decoding
        def outcome(path):
            try:
                return str(decode.decode_file(path, Decoding(224)).shape[0])
            except ImageError as error:
                return error.kind
        decode.configure_pillow()
        with ThreadPoolExecutor(8) as pool:
            print(*pool.map(outcome, sys.argv[1:]))
        print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    """
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    outcomes, memory = done.stdout.splitlines()
    return outcomes.split(), int(memory) // 1024


def write_image(path: Path, side: int) -> Path:
    """Write a square image of the kind that the file name specifies."""
    match path.name:
        case "rgb.png" | "rgba.png":
            channels = len(path.stem)
            rows = enc.deflate_repeated(b"\0" + bytes(range(200)) * (side * channels // 200), side)
            path.write_bytes(enc.png_of_deflated(side, side, 8, 2 if channels == 3 else 6, rows))
        case "baseline.jpg" | "progressive.jpg":
            image = Image.new("RGB", (side, side), (200, 30, 40))
            image.save(path, progressive=path.stem == "progressive")
        case "16-bit.tif" | "float.tif":
            levels = np.zeros((side, side), np.uint16 if path.stem == "16-bit" else np.float32)
            levels[::2] = 65535
            Image.fromarray(levels).save(path)
    return path


@linux
@pytest.mark.parametrize(
    ("name", "limit"), [("rgb.png", 550), ("rgba.png", 550), ("baseline.jpg", 150), ("progressive.jpg", 450)]
)
def test_100_megapixels_need_little_more_than_their_own_size(tmp_path: Path, name: str, limit: int) -> None:
    outcomes, memory = peak_memory(write_image(tmp_path / name, 10_000))
    assert outcomes == ["224"]
    assert memory < limit


@pytest.fixture(scope="module")
def images_of_36_megapixels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return images of more than half of the budget each, by name."""
    folder = tmp_path_factory.mktemp("large")
    names = ("rgb.png", "rgba.png", "baseline.jpg", "progressive.jpg", "16-bit.tif", "float.tif")
    return {name: write_image(folder / name, 6000) for name in names}


@linux
@pytest.mark.parametrize(("name", "own"), [("16-bit.tif", 72), ("float.tif", 144)])
def test_deep_grey_is_not_copied(images_of_36_megapixels: dict[str, Path], name: str, own: int) -> None:
    outcomes, memory = peak_memory(images_of_36_megapixels[name])
    assert outcomes == ["224"]
    assert memory < 2 * own + 50


@linux
def test_several_large_images_at_once_need_little_more_than_one(images_of_36_megapixels: dict[str, Path]) -> None:
    images = images_of_36_megapixels
    outcomes, memory = peak_memory(*images.values(), images["rgb.png"], images["rgba.png"])
    assert outcomes == ["224"] * 8
    assert memory < 400


@linux
def test_decompression_bombs_need_little_memory(tmp_path: Path) -> None:
    rows = enc.deflate_repeated(bytes(60_001), 20_000)
    (tmp_path / "a.png").write_bytes(enc.png_of_deflated(20_000, 20_000, 8, 2, rows))
    jpeg = encoded(Image.new("RGB", (16, 16)), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    (tmp_path / "b.jpg").write_bytes(jpeg[: frame + 5] + struct.pack(">HH", 65500, 65500) + jpeg[frame + 9 :])
    side = (enc.LONG, [32_768])
    tags = enc.tiff_tags(32, 32, [8], 1, t259=(enc.SHORT, [8]), t322=side, t323=side)
    (tmp_path / "c.tif").write_bytes(enc.tiff(tags, [enc.deflate_repeated(bytes(1 << 20), 1 << 10)]))
    outcomes, memory = peak_memory(*sorted(tmp_path.iterdir()))
    assert outcomes == ["too_large"] * 3
    assert memory < 500
