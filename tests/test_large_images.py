"""Large pictures: as fast as they are large, in bounded memory, and with the same answer as small ones."""

import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import encoders as enc
import numpy as np
import pytest
from corpus import encoded
from odd_images import SAMPLES, STORED, exif
from PIL import Image

from resnet_cli import colours, images
from resnet_cli.pretrained import Fit

SIZE = 224


def photograph(width: int, height: int) -> Image.Image:
    """A real photograph, enlarged, with the noise of a sensor."""
    image = Image.open(SAMPLES / "coffee.jpg").convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(7).normal(0, 4, (height, width, 1)).astype(np.int16)
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def read(content: bytes, fit: Fit = Fit.CROP) -> np.ndarray:
    return images.decode_stream(BytesIO(content), SIZE, fit).astype(int)


@pytest.fixture(scope="module")
def photo() -> bytes:
    return encoded(photograph(4243, 2829), "JPEG", quality=90)


def test_large_photographs_are_decoded_four_times_faster(photo: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(headroom: float) -> float:
        monkeypatch.setattr(images, "HEADROOM", headroom)
        started = time.process_time()
        read(photo)
        return time.process_time() - started

    headroom = images.HEADROOM
    ratios = [seconds(1e9) / seconds(headroom) for _ in range(7)]
    assert np.median(ratios) > 4


@pytest.mark.parametrize("fit", Fit)
def test_what_is_decoded_faster_looks_the_same(photo: bytes, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read(photo, fit)
    monkeypatch.setattr(images, "HEADROOM", 1e9)
    assert np.abs(fast - read(photo, fit)).mean() < 1.5


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("fit", Fit)
def test_large_photographs_are_turned(orientation: int, fit: Fit) -> None:
    """Sides that no reduction divides, so that what the reduced picture fills is turned as well."""
    picture = np.asarray(photograph(1605, 1203))
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](picture)))
    pixels = read(encoded(stored, "JPEG", quality=95, exif=exif(orientation)), fit)
    expected = read(encoded(Image.fromarray(picture)), fit)
    assert np.abs(pixels - expected).mean() < 2


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "1", "CMYK", "I;16", "F"])
def test_pictures_converted_by_strips_look_the_same(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = photograph(2011, 1511)
    if mode in ("I;16", "F"):
        grey = np.asarray(image.convert("L"))
        image = Image.fromarray(grey.astype(np.uint16) * 257 if mode == "I;16" else grey.astype(np.float32) / 255)
    elif mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    content = encoded(image if mode in ("I;16", "F") else image.convert(mode), "TIFF")
    whole = {fit: read(content, fit) for fit in Fit}
    monkeypatch.setattr(colours, "LARGE", 1)
    monkeypatch.setattr(colours, "STRIP", 100_000)
    for fit in Fit:
        assert np.abs(read(content, fit) - whole[fit]).mean() < 1.5


def test_large_pictures_take_turns() -> None:
    """Never more pixels at once than the budget has, and all come through."""
    budget, now, most = images._Budget(100 * images.SMALL), [], []

    def work(pixels: int) -> None:
        with budget.taken(pixels):
            now.append(pixels)
            most.append(sum(now))
            time.sleep(0.002)
            now.remove(pixels)

    sizes = [30 * images.SMALL, 90 * images.SMALL, 2 * images.SMALL, 500 * images.SMALL, 60 * images.SMALL] * 8
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, sizes))
    assert len(most) == len(sizes)
    assert max(total for total in most if total < 500 * images.SMALL) <= 100 * images.SMALL
    assert sum(total >= 500 * images.SMALL for total in most) == 8
    assert max(most) == 500 * images.SMALL


def peak(*paths: Path) -> tuple[list[str], int]:
    """What becomes of files that are decoded all at once, and the most memory in MiB that it takes."""
    program = """if True:
        import sys
        from pathlib import Path
        from concurrent.futures import ThreadPoolExecutor
        from resnet_cli import inputs
        from resnet_cli.errors import ImageError
        from resnet_cli.pretrained import Fit
        def outcome(path):
            try:
                return str(inputs.decode(path, 224, Fit.CROP).shape[0])
            except ImageError as error:
                return error.kind
        with ThreadPoolExecutor(8) as pool:
            print(*pool.map(outcome, sys.argv[1:]))
        print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
    """
    done = subprocess.run([sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    outcomes, memory = done.stdout.splitlines()
    return outcomes.split(), int(memory) // 1024


@pytest.fixture(scope="module")
def giants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of 100 megapixels."""
    folder = tmp_path_factory.mktemp("giants")
    row = b"\0" + bytes(range(200)) * 150
    (folder / "a.png").write_bytes(enc.png(10_000, 10_000, 8, 2, row * 10_000))
    (folder / "b.png").write_bytes(enc.png(10_000, 10_000, 8, 6, (b"\0" + bytes(range(200)) * 200) * 10_000))
    image = Image.new("RGB", (10_000, 10_000), (200, 30, 40))
    image.save(folder / "c.jpg")
    image.save(folder / "d.jpg", progressive=True)
    deep = np.zeros((10_000, 10_000), np.uint16)
    deep[::2] = 65535
    Image.fromarray(deep).save(folder / "e.tif")
    Image.fromarray(deep.astype(np.float32)).save(folder / "f.tif")
    return folder


linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is told otherwise elsewhere")


@linux
@pytest.mark.parametrize(("name", "most"), [("a.png", 550), ("b.png", 550), ("c.jpg", 150), ("d.jpg", 450)])
def test_100_megapixels_take_their_own_size(giants: Path, name: str, most: int) -> None:
    outcomes, memory = peak(giants / name)
    assert outcomes == ["224"]
    assert memory < most


@linux
@pytest.mark.parametrize(("name", "own"), [("e.tif", 200), ("f.tif", 400)])
def test_deep_grey_takes_no_copies(giants: Path, name: str, own: int) -> None:
    outcomes, memory = peak(giants / name)
    assert outcomes == ["224"]
    assert memory < 2 * own + 50


@linux
def test_several_giants_at_once_take_no_more_than_one(giants: Path) -> None:
    outcomes, memory = peak(*sorted(giants.iterdir()), giants / "a.png", giants / "b.png")
    assert outcomes == ["224"] * 8
    assert memory < 800


@linux
def test_bombs_take_little_memory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(enc.png(20_000, 20_000, 8, 2, bytes(60_001) * 20_000))
    photo = encoded(Image.new("RGB", (16, 16)), "JPEG")
    frame = photo.index(b"\xff\xc0")
    (tmp_path / "b.jpg").write_bytes(photo[: frame + 5] + struct.pack(">HH", 65500, 65500) + photo[frame + 9 :])
    side = (enc.LONG, [32_768])
    tags = enc.tiff_tags(32, 32, [8], 1, t259=(enc.SHORT, [8]), t322=side, t323=side)
    (tmp_path / "c.tif").write_bytes(enc.tiff(tags, [zlib.compress(bytes(1 << 30), 1)]))
    outcomes, memory = peak(*sorted(tmp_path.iterdir()))
    assert outcomes == ["too_large"] * 3
    assert memory < 500
