"""HowTo100M (Miech et al. 2019): 1.2 M narrated instructional videos and 136 M lines of what is said in them.

Official files: `HowTo100M_v1.csv` (video_id, category_1, …), or one of the lists that methods have published,
`howto100m_videos.csv` (MIL-NCE) and `HowTo100M_1166_videopaths.txt` (AVLnet); captions as `caption.json`,
`raw_caption_superclean.json`, `raw_caption.json`, MIL-NCE's `howto100m_captions.zip` or the folder it unpacks to.
Media: whole videos `<id>.{mp4,webm,…}`, or precomputed features. It has no test split: it is trained on only.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from datamodules import source

if TYPE_CHECKING:
    from datamodules.source.captions import Captions

LISTS = {
    "HowTo100M_v1.csv": "video_id",
    "howto100m_videos.csv": "video_path",  # MIL-NCE
    "HowTo100M_1166_videopaths.txt": "path",  # AVLnet
}
"""Official list -> its column with the video's id, or a path that ends with it."""
CAPTIONS = ("caption.json", "raw_caption_superclean.json", "raw_caption.json", "howto100m_captions.zip")


class HowTo100M(source.Source):
    name = "howto100m"
    title = "HowTo100M"
    citation = "Miech, Zhukov, Alayrac, Tapaswi, Laptev, Sivic. ICCV 2019"
    holds = "1.2 M narrated instructional videos, 136 M lines of speech"
    url = "https://www.di.ens.fr/willow/research/howto100m/"
    folders = ("HowTo100M", "howto100m")
    splits = ("train",)
    sizes: ClassVar = {"train": 1238911}  # rows of MIL-NCE's list
    media = "videos"
    narrated = True
    boards = ()

    @classmethod
    def required_files(cls) -> tuple[str, ...]:
        return ()  # one of `LISTS`

    @cached_property
    def classes(self) -> list[str]:
        """None: only captions say what is done in a video."""
        return []

    @cached_property
    def captions(self) -> Captions:
        from datamodules.source import captions

        folder = self.root / "howto100m_captions"
        try:
            path = folder if folder.is_dir() else self.find(*CAPTIONS)
            return captions.read(path, self.cache, self.track)
        except captions.CaptionError:
            raise
        except source.DataError as error:
            advice = "" if not list(self.root.glob("*.pickle")) else (
                "; pickles run the code they hold and are not read: write them as JSON with "
                "python -c 'import json, pickle, sys; json.dump(pickle.load(open(sys.argv[1], \"rb\")), "
                'open("caption.json", "w"))\' FILE'
            )  # fmt: skip
            raise source.DataError(f"{error}{advice}") from error

    def read_split(self, split: str) -> source.Official:
        path = self.find(*LISTS)
        column = LISTS[path.name]
        rows = source.read_rows_by_header(path, (column,))
        video_id = rows[column].str.rsplit("/", n=1).str[-1]
        if column != "video_id":
            video_id = video_id.str.replace(r"\.(mp4|mkv|webm)$", "", regex=True)
        return rows.official({"clip_id": video_id})
