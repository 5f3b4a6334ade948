"""A folder of photos as a data set: its classes, its broken files, its splits."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from sizemix.data.cropping import GAP
from sizemix.data.crops import RandomResizedCrop
from sizemix.data.pack_format import INDEX_FILE
from sizemix.data.photo_sets import PhotoDataset, photo_dataset, with_held_out
from sizemix.data.photos import Photo, open_photo, photo_size
from sizemix.data.splits import SplitFile, read_split
from sizemix.errors import UserError

_TOLERATED_PART, _TOLERATED_NUMBER = 0.01, 10


class BrokenFilesError(UserError):
    """So many files are broken that something is wrong with the data.

    Attributes:
        broken: reason by path.
    """

    def __init__(self, message: str, broken: Mapping[str, str]) -> None:
        super().__init__(message)
        self.broken = broken


@dataclass(frozen=True)
class PhotoFiles:
    """Photos that are a file each.

    Attributes:
        root: what paths are relative to.
        paths: one a photo.
    """

    root: Path
    paths: Sequence[str]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, index: int) -> str:
        """Its path."""
        return self.paths[index]

    def open(self, index: int) -> Photo:
        """Reads the file, and what its header says."""
        return open_photo(f"{self.root}/{self.paths[index]}")

    def subset(self, rows: Sequence[int]) -> "PhotoFiles":
        """Only those files, in that order."""
        return PhotoFiles(self.root, [self.paths[row] for row in rows])

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the upright photo, from the file's header."""
        return photo_size(self.root / self.paths[index])


def folder(
    *,
    root: str,
    name: str | None = None,
    val_dir: str | None = "val",
    test_dir: str | None = "test",
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    group_pattern: str | None = None,
    split_seed: int = 0,
    split_file: str | None = None,
    train_images: int | None = None,
    allow_broken: bool = False,
    crop_scale: tuple[float, float] = (0.08, 1.0),
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3),
    crop_reference_size: int | None = None,
    decode_gap: float = GAP,
) -> PhotoDataset:
    """Photos in a folder for each class, or in train/, val/ and test/ with a folder for each class in each.

    Without those, or without one of them, a stratified part is held out. Every file's header is read first; broken
    files are left out.

    Args:
        root: the folder.
        name: what reports call the data; None: the folder's name.
        val_dir: where validation files stand beside train/; None: they are held out from train/.
        test_dir: where test files stand beside train/; None: they are held out.
        val_fraction: of the files, held out for validation where there is no val_dir.
        test_fraction: of the files, held out for the test where there is no test_dir.
        group_pattern: regular expression on file names; files with the same match stay in one split.
        split_seed: seed of the held-out parts; not the run's, so that runs stay comparable.
        split_file: split.csv of another run, taken as it is; then nothing is looked for or drawn.
        train_images: use only so many training images, equally many of each class; None uses all.
        allow_broken: go on with over 1 % (and more than 10) broken files.
        crop_scale: least and greatest part of a photo's area that training shows.
        crop_aspect: least and greatest width / height of that part.
        crop_reference_size: see RandomResizedCrop.reference_size.
        decode_gap: pixels decoded for each pixel of a crop, at least, where less than all are.

    Raises:
        UserError: no folder, no images, a single class, classes that differ between splits.
        BrokenFilesError: too many broken files.
    """
    where = Path(root)
    if not where.is_dir():
        raise UserError(f"data.root: expected a folder with a folder for each class, got {root}, which is no folder.")
    if split_file is not None:
        files, broken = read_split(Path(split_file)), dict[str, str]()
    else:
        files, broken = _scanned(where, val_dir=val_dir, test_dir=test_dir, allow_broken=allow_broken)
        files = with_held_out(
            files, {"val": val_fraction, "test": test_fraction}, seed=split_seed, group_pattern=group_pattern
        )
    return photo_dataset(
        files,
        lambda paths: PhotoFiles(where, paths),
        name=name or where.resolve().name,
        crop=RandomResizedCrop((crop_scale[0], crop_scale[1]), (crop_aspect[0], crop_aspect[1]), crop_reference_size),
        decode_gap=decode_gap,
        train_images=train_images,
        broken=broken,
    )


def find_files(root: Path, *, val_dir: str | None, test_dir: str | None) -> list[SplitFile]:
    """All image files, with the split that their folder says or train.

    Raises:
        UserError: no folder, no images, a single class, classes that differ between splits.
    """
    if not root.is_dir():
        raise UserError(f"data.root: expected a folder with a folder for each class, got {root}, which is no folder.")
    parts = _parts(root, val_dir=val_dir, test_dir=test_dir)
    files = [file for split, part in parts.items() for file in _images_of(root, part, split)]
    _check_classes(root, parts, files)
    return files


def readable_files(
    root: Path, files: Sequence[SplitFile], broken: Mapping[str, str], *, val_dir: str | None, test_dir: str | None
) -> list[SplitFile]:
    """Those that are not broken.

    Raises:
        UserError: nothing is left of a class.
    """
    readable = [file for file in files if file.path not in broken]
    _check_classes(root, _parts(root, val_dir=val_dir, test_dir=test_dir), readable)
    return readable


def refuse_many_broken(broken: Mapping[str, str], *, number: int, root: Path, option: str) -> None:
    """What many broken files are answered with.

    Args:
        broken: reason by path.
        number: of all files.
        root: of the files.
        option: goes on nevertheless.

    Raises:
        BrokenFilesError: over 1 % of the files, and more than 10.
    """
    if len(broken) > max(_TOLERATED_NUMBER, _TOLERATED_PART * number):
        example = next(iter(broken))
        raise BrokenFilesError(
            f"{len(broken)} of {number} files in {root} cannot be read as images, such as {example} "
            f"({broken[example]}); mend or remove them, or set {option} to go on without them.",
            broken,
        )


def why_broken(error: Exception, path: Path) -> str:
    """The reason as one line, without the folder's name."""
    return " ".join(f"{type(error).__name__}: {error}".replace(str(path), path.name).split())


def _scanned(
    root: Path, *, val_dir: str | None, test_dir: str | None, allow_broken: bool
) -> tuple[list[SplitFile], dict[str, str]]:
    """All readable files, with the split that their folder says or train; and the broken ones."""
    files = find_files(root, val_dir=val_dir, test_dir=test_dir)
    broken = dict(_broken(root, files))
    if not allow_broken:
        refuse_many_broken(broken, number=len(files), root=root, option="data.allow_broken=true")
    return readable_files(root, files, broken, val_dir=val_dir, test_dir=test_dir), broken


def _parts(root: Path, *, val_dir: str | None, test_dir: str | None) -> dict[str, Path]:
    """The folder of each split that has one; that of train holds everything where it is not in parts.

    Raises:
        UserError: a further folder with images of the same classes.
    """
    if not (root / "train").is_dir():
        return {"train": root}
    folders = {"train": "train", "val": val_dir, "test": test_dir}
    parts = {split: root / name for split, name in folders.items() if name and (root / name).is_dir()}
    held_out = frozenset(usual for usual, given in (("val", val_dir), ("test", test_dir)) if given is None)
    _refuse_unused(root, parts, passed_over=held_out)
    return parts


def _refuse_unused(root: Path, parts: Mapping[str, Path], *, passed_over: frozenset[str]) -> None:
    """A folder with train's classes that is no split is a name mistyped, and its images would silently be missed."""
    classes = {entry.name for entry in parts["train"].iterdir() if entry.is_dir()}
    used = [part.name for part in parts.values()]
    others = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and entry.name not in passed_over.union(used)]
    unused = [other.name for other in others if classes & {entry.name for entry in other.iterdir() if entry.is_dir()}]
    if unused:
        raise UserError(
            f"{root}: expected images in {', '.join(used)} alone, got classes of them in {', '.join(unused)} as well; "
            "name these by data.val_dir and data.test_dir (--val-dir, --test-dir), or move them elsewhere."
        )


def _images_of(root: Path, part: Path, split: str) -> Iterator[SplitFile]:
    """Image files below each class's folder; hidden ones and other kinds of files are passed over."""
    extensions = Image.registered_extensions()
    for class_folder in sorted(entry for entry in part.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        for path in sorted(class_folder.rglob("*")):
            named_so = path.suffix.lower() in extensions and not path.name.startswith(".")
            if named_so and (path.is_file() or _is_broken_link(path)):
                yield SplitFile(path.relative_to(root).as_posix(), class_folder.name, split)


def _is_broken_link(path: Path) -> bool:
    """Whether it leads nowhere, or to itself: then it is named among the broken files."""
    return path.is_symlink() and not path.exists()


def _check_classes(root: Path, parts: Mapping[str, Path], files: Sequence[SplitFile]) -> None:
    classes = {split: {file.class_name for file in files if file.split == split} for split in parts}
    if len(classes["train"]) < 2:
        found = f"only those of '{classes['train'].pop()}'" if classes["train"] else "none"
        if (root / INDEX_FILE).is_file():
            raise UserError(f"data.root: expected a folder of photos, got the pack {root}; a pack is data=pack.")
        raise UserError(
            f"expected image files of at least two classes, a folder for each, in {parts['train']}, found {found}"
            f"{_loose_images(parts['train'])}."
        )
    for split, names in classes.items():
        for there, missing in (("train", classes["train"] - names), (parts[split].name, names - classes["train"])):
            if missing:
                raise UserError(
                    f"{root}: expected the same classes in train/ and {parts[split].name}/, got images of "
                    f"{', '.join(sorted(missing)[:5])} in {there}/ only."
                )


def _loose_images(part: Path) -> str:
    """What to do about image files that lie in no class's folder."""
    extensions = Image.registered_extensions()
    loose = sum(1 for path in part.iterdir() if path.suffix.lower() in extensions)
    if not loose:
        return ""
    return f", and {loose} image files in no class's folder; if {part.name} is a class, set data.root={part.parent}"


def _broken(root: Path, files: Sequence[SplitFile]) -> Iterator[tuple[str, str]]:
    with ThreadPoolExecutor() as threads:
        reasons = threads.map(lambda file: _reason(root / file.path), files)
        bar = tqdm(reasons, desc="Checking files", total=len(files), unit="file", leave=False, disable=None)
        for file, reason in zip(files, bar, strict=True):
            if reason is not None:
                yield file.path, reason


def _reason(path: Path) -> str | None:
    """Why a file's header cannot be read; None: it can."""
    try:
        photo_size(path)
    except Exception as error:  # whatever one of Pillow's readers raises on bytes that are not what they seem
        return why_broken(error, path)
    return None
