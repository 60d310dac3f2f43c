"""Images in one folder for each class: `<root>/<class>/...jpg`."""

from pathlib import Path

from distill.data.checks import existing_folder
from distill.data.images import find_images
from distill.data.listing import entries
from distill.errors import UserError


def class_folders(root: str | Path, key: str = "root") -> dict[str, list[Path]]:
    """The images of every class, which its folder is named after, both in alphabetical order.

    Args:
        root: The folder of the classes' folders; files beside them are left alone.
        key: The recipe key that an error names.

    Raises:
        UserError: `root` is missing, holds no folder, or one without an image.
    """
    folders = [path for path in entries(existing_folder(key, str(root))) if path.is_dir()]
    if not folders:
        raise UserError(f"{key} {str(root)!r} holds no folder; give the folder that holds a folder for each class")
    return {folder.name: find_images(folder, key) for folder in folders}
