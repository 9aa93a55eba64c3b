"""The tables of the three papers as printed, in per cent (METHODS sections 6 and 7)."""

import dataclasses
import math
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Published:
    """A table of a paper: NaN where it has no number.

    Attributes:
        key: method and number of the table, "co2net/3".
        title: what the table compares.
        columns: a t-IoU ("0.5"), an average over t-IoUs ("0.1:0.7"), or "F1", which is at 0.5.
        rows: the paper's own rows by name; the last one is the full method. The number of a column
            is at the column's place.
        judged: the columns in which rows are compared with each other.
        others: rows of other methods, (supervision, name, numbers); † is "additional data or
            labels".
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    judged: tuple[str, ...]
    others: tuple[tuple[str, str, tuple[float, ...]], ...]

    @property
    def method(self) -> str:
        """Whose paper it is, as `config.method` says it."""
        return self.key.partition("/")[0]

    @property
    def heading(self) -> str:
        """The table's name for people."""
        method, _, number = self.key.partition("/")
        return f"{PAPERS[method]}, Table {number}: {self.title}" if method in PAPERS else self.title

    @property
    def activitynet(self) -> bool:
        """Whether it is of ActivityNet; else of THUMOS14."""
        return "0.5:0.95" in self.columns

    @property
    def published_on(self) -> str:
        """The data set of the paper's numbers."""
        if not self.activitynet:
            return "THUMOS14"
        return "ActivityNet 1.3" if self.method == "twostream" else "ActivityNet 1.2"

    @property
    def ablation(self) -> bool:
        """Whether it compares variants of the paper's own method."""
        return len(self.rows) > 1


PAPERS = {"co2net": "CO2-Net", "d2net": "D2-Net", "twostream": "Two-stream"}

_THUMOS = "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.1:0.7"
_ANET = "0.5 0.55 0.6 0.65 0.7 0.75 0.8 0.85 0.9 0.95 0.5:0.95"
_ANET_SHORT = "0.5 0.75 0.95 0.5:0.95"


def _numbers(text: str, columns: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
    """Lines of a name and a number for each column, - for none."""
    split = (line.strip().rsplit(maxsplit=len(columns)) for line in text.strip().splitlines())
    return {
        name: tuple(math.nan if cell == "-" else float(cell) for cell in cells)
        for name, *cells in split
    }


def _table(
    key: str,
    title: str,
    columns: str,
    rows: str,
    judged: str = "",
    others: Mapping[str, str] | None = None,
) -> Published:
    """A table from text; rows are judged by the last column where nothing else is said."""
    names = tuple(columns.split())
    return Published(
        key,
        title,
        names,
        _numbers(rows, names),
        tuple(judged.split()) or names[-1:],
        tuple(
            (supervision, name, numbers)
            for supervision, text in (others or {}).items()
            for name, numbers in _numbers(text, names).items()
        ),
    )


# The structure tables of the two-stream paper (5 and 6) have a third row, the baseline with both
# branches: its numbers are those of fg+bg+ct in the tables of the loss terms (METHODS 4.c).
_TABLES = (
    _table(
        "co2net/1",
        "comparison with other methods",
        "0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 0.1:0.5 0.1:0.7 0.1:0.9",
        """
            CO2-Net  70.1 63.6 54.5 45.7 38.3 26.4 13.4  6.9  2.0 54.4 44.6 35.7
        """,
        judged="0.1:0.7",
        others={
            "Fully": """
                S-CNN (2016)    47.7 43.5 36.3 28.7 19.0 10.3  5.3    -    - 35.0 24.3    -
                SSN (2017)      60.3 56.2 50.6 40.8 29.1    -    -    -    - 47.4    -    -
                BSN (2018)         -    - 53.5 45.0 36.9 28.4 20.0    -    -    -    -    -
                TAL-Net (2018)  59.8 57.1 53.2 48.5 42.8 33.8 20.8    -    - 52.3 45.1    -
                P-GCN (2019)    69.5 67.5 63.6 57.8 49.1    -    -    -    - 61.5    -    -
            """,
            "Weakly†": """
                CMCS (2019)        57.4 50.8 41.2 32.1 23.1 15.0  7.0    -    - 40.9 32.4    -
                STAR (2019)        68.8 60.0 48.7 34.7 23.0    -    -    -    - 47.4    -    -
                3C-Net (2019)      59.1 53.5 44.2 34.1 26.6    -  8.1    -    - 43.5    -    -
                PreTrimNet (2020)  57.5 50.7 41.4 32.1 23.1 14.2  7.7    -    - 41.0 23.7    -
                SF-Net (2020)      71.0 63.4 53.2 40.7 29.3 18.4  9.6    -    - 51.5 40.8    -
            """,
            "Weakly": """
                BaS-Net (2020)      58.2 52.3 44.6 36.0 27.0 18.6 10.4  3.3  0.4 43.6 35.3 27.9
                Gong et al. (2020)     -    - 46.9 38.9 30.1 19.8 10.4    -    -    -    -    -
                DML (2020)          62.3    - 46.8    - 29.6    -  9.7    -    -    -    -    -
                A2CL-PT (2020)      61.2 56.1 48.1 39.0 30.1 19.2 10.6  4.8  1.0 46.9 37.8 30.0
                TSCN (2020)         63.4 57.6 47.8 37.7 28.7 19.4 10.2  3.9  0.7 47.0 37.8 29.9
                ACSNet (2021)          -    - 51.4 42.7 32.4 22.0 11.7    -    -    -    -    -
                HAM-Net (2021)      65.9 59.6 52.2 43.1 32.6 21.9 12.5  4.4  0.7 50.7 39.8 32.5
                UM (2021)           67.5 61.2 52.3 43.4 33.7 22.9 12.1  3.9  0.4 51.6 41.9 33.0
            """,
        },
    ),
    _table(
        "co2net/2",
        "comparison with other methods",
        _ANET_SHORT,
        """
            CO2-Net  43.3 26.3  5.2 26.4
        """,
        others={
            "Fully": """
                SSN (2017)  41.3 27.0  6.1 26.6
            """,
            "Weakly†": """
                3C-Net (2019)  35.4 22.9  8.5 21.1
                CMCS (2019)    36.8 22.0  5.6 22.4
            """,
            "Weakly": """
                BaSNet (2020)       38.5 24.2  5.6 24.3
                ActionBytes (2020)  39.4    -    -    -
                DGAM (2020)         41.0 23.5  5.3 24.4
                Gong et al. (2020)  40.0 25.0  4.6 24.6
                TSCN (2020)         37.6 23.7  5.7 23.6
                RefineLoc (2021)    38.7 22.6  5.5 23.2
                HAM-Net (2021)      41.0 24.8  5.3 25.1
                UM (2021)           41.2 25.6  6.0 25.9
                ACSNet (2021)       40.1 26.1  6.8 26.0
            """,
        },
    ),
    _table(
        "co2net/3",
        "loss terms",
        "0.1:0.7",
        """
            mil                38.1
            mil+oppo           40.0
            mil+oppo+ml        41.4
            mil+oppo+ml+cas    42.8
            mil+oppo+cas+norm  42.6
            all                44.6
        """,
    ),
    _table(
        "co2net/4",
        "metric of mutual learning",
        _THUMOS,
        """
            MAE  69.2 63.0 53.8 45.2 38.6 26.2 13.9 44.3
            KL   67.7 62.2 53.9 44.8 37.3 25.7 14.7 43.8
            JS   69.2 63.3 54.5 46.0 38.3 26.5 14.1 44.5
            MSE  70.1 63.6 54.5 45.7 38.3 26.4 13.4 44.6
        """,
    ),
    _table(
        "co2net/5",
        "main and auxiliary modality in the CCM",
        "0.1 0.3 0.5 0.7 0.1:0.7",
        """
            Local/Local   68.1 52.6 36.3 13.2 43.0
            Local/Global  70.0 54.1 37.5 12.3 44.0
            Global/Local  70.1 54.5 38.3 13.4 44.6
        """,
    ),
    _table(
        "co2net/6",
        "fusion",
        "0.1:0.7",
        """
            Add     39.9
            Concat  39.5
            SSMA    38.0
            SE      43.0
            CCM     44.6
        """,
    ),
    _table(
        "d2net/1",
        "comparison with other methods",
        "0.1 0.2 0.3 0.4 0.5",
        """
            D2-Net  65.7 60.2 52.3 43.4 36.0
        """,
        others={
            "Fully": """
                R-C3D    54.5 51.5 44.8 35.6 28.9
                GTAD        -    - 54.5 47.6 40.2
                TAL-Net  59.8 57.1 53.2 48.5 42.8
                P-GCN    69.5 67.8 63.6 57.8 49.1
            """,
            "Weakly": """
                AutoLoc       -    - 35.8 29.0 21.2
                W-TALC     53.7 48.5 39.2 29.9 22.0
                CMCS       57.4 50.8 41.2 32.1 23.1
                BM         64.2 59.5 49.1 38.4 27.5
                3C-Net     59.1 53.5 44.2 34.1 26.6
                BaS-Net    58.2 52.3 44.6 36.0 27.0
                DGAM       60.0 54.2 46.8 38.2 28.8
                DML        62.3    - 46.8    - 29.6
                A2CL-PT    61.2 56.1 48.1 39.0 30.1
                EM-MIL     59.1 52.7 45.5 36.8 30.5
                ACM-BANet  64.6 57.7 48.9 40.9 32.3
                HAM-Net    65.4 59.0 50.3 41.1 31.0
                UM         67.5 61.2 52.3 43.4 33.7
                ASL        67.0    - 51.8    - 31.1
                CoLA       66.2 59.5 51.5 41.9 32.2
            """,
        },
    ),
    _table(
        "d2net/2",
        "comparison with other methods",
        _ANET_SHORT,
        """
            D2-Net  42.3 25.5  5.8 26.0
        """,
        others={
            "Fully": """
                SSN  41.3 27.0  6.1 26.6
            """,
            "Weakly": """
                DML      35.2    -    -    -
                EM-MIL   37.4    -    - 20.3
                CMCS     36.8 22.0  5.6 22.4
                3C-Net   37.2    -    - 21.7
                BaS-Net  38.5 24.2  5.6 24.3
                DGAM     41.0 23.5  5.3 24.4
                UM       41.2 25.6  6.0 25.9
                ASL      40.2    -    - 25.8
            """,
        },
    ),
    _table(
        "d2net/3",
        "loss terms",
        "0.1 0.2 0.3 0.4 0.5 F1",
        """
            L_CE         55.0 47.6 38.7 30.7 23.0 23.5
            L_F          58.8 52.4 44.3 35.7 26.7 27.2
            L_Dis        65.4 59.7 50.1 40.4 32.2 30.7
            L_Dis + L_D  65.7 60.2 52.3 43.4 36.0 36.7
        """,
        judged="0.5 F1",
    ),
    _table(
        "d2net/4",
        "denoising by other losses",
        "0.5",
        """
            L1    32.9
            BCE   33.5
            pDMI  36.0
        """,
    ),
    _table(
        "twostream/1",
        "comparison with other methods",
        _THUMOS,
        """
            two-stream  73.0 68.2 60.0 47.9 37.1 24.4 12.7 46.2
        """,
        others={
            "Fully": """
                SSN    66.0 59.4 51.9 41.0 29.8    -    -    -
                BSN       -    - 53.5 45.0 36.9 28.4 20.0    -
                BMN       -    - 56.0 47.4 38.8 29.7 20.5    -
                BSN++     -    - 59.9 49.5 41.3 31.9 22.8    -
                G-TAD     -    - 66.4 60.4 51.6 37.6 22.9    -
            """,
            "Weakly†": """
                3C-Net      59.1 53.5 44.2 34.1 26.6    -  8.1    -
                PreTrimNet  57.5 50.7 41.4 32.1 23.1 14.2  7.7 23.7
                SF-Net      71.0 63.4 53.2 40.7 29.3 18.4  9.6 40.8
                Ju et al.   72.3 64.7 58.2 47.1 35.9 23.0 12.8 44.9
                LACP        75.7 71.4 64.6 56.5 45.3 34.5 21.8 52.8
            """,
            "Weakly": """
                MAAN     59.8 50.8 41.1 30.6 20.3 12.0  6.9 31.6
                BasNet   58.2 52.3 44.6 36.0 27.0 18.6 10.4 35.3
                EM-MIL   59.1 52.7 45.5 36.8 30.5 22.7 16.4 37.7
                DGAM     60.0 54.2 46.8 38.2 28.8 19.8 11.4 37.0
                A2CL-PT  61.2 56.1 48.1 39.0 30.1 19.2 10.6 37.8
                CoLA     66.2 59.5 51.5 41.9 32.2 22.0 13.1 40.9
                HAM-Net  65.4 59.0 50.3 41.1 31.0 20.7 11.4 39.8
                ACSNet      -    - 51.4 42.7 32.4 22.0 11.7    -
                ACM-Net  65.3 59.2 49.5 38.4 27.4 16.4  6.9 37.6
                ASL      67.0    - 51.8    - 31.1    -    -    -
                D2-Net   65.7 60.2 52.3 43.4 36.0    -    -    -
                AUMN     66.2 61.9 54.9 44.4 33.3 20.5  9.0 41.5
                UM       67.5 61.2 52.3 43.4 33.7 22.9 12.1 41.9
                FAC-Net  67.6 62.1 52.6 44.3 33.4 22.5 12.7 42.2
                CO2-Net  70.1 63.6 54.5 45.7 38.3 26.4 13.4 44.6
                ASM-Loc  71.2 65.5 57.1 46.8 36.6 25.2 13.4 45.1
            """,
        },
    ),
    _table(
        "twostream/2",
        "comparison with other methods",
        _ANET,
        """
            two-stream  41.8 38.5 35.8 32.6 29.2 25.7 22.7 17.5 12.6  6.5 26.3
        """,
        others={
            "Fully": """
                SSN    41.3 38.8 35.9 32.9 30.4 27.0 22.2 18.2 13.2  6.1 26.6
                BSN    46.5    -    -    -    - 30.0    -    -    -  8.0 30.0
                G-TAD  50.4    -    -    -    - 34.6    -    -    -  9.0 34.1
            """,
            "Weakly†": """
                CMCS    36.8    -    -    -    - 22.0    -    -    -  5.6    -
                3C-Net  35.4    -    -    -    - 22.9    -    -    -  8.5    -
                LACP    40.4    -    -    -    - 24.6    -    -    -  5.7    -
            """,
            "Weakly": """
                UntrimmedNet   7.4  6.1  5.2  4.5  3.9  3.2  2.5  1.8  1.2  0.7  3.6
                AutoLoc       27.3 24.9 22.5 19.9 17.5 15.1 13.0 10.0  6.8  3.3 16.0
                TSM           30.3    -    -    -    - 19.0    -    -    -  4.5    -
                CleanNet      37.1 33.4 29.9 26.7 23.4 20.3 17.2 13.9  9.2  5.0 21.6
                Bas-Net       34.5    -    -    -    - 22.5    -    -    -  5.2    -
                DGAM          40.6 37.0 33.2 29.8 26.6 23.2 19.7 15.1 10.4  5.2 24.1
                EM-MIL        37.4    -    -    -    - 23.1    -    -    -  2.0    -
                TSCN          35.3    -    -    -    - 21.4    -    -    -  5.3    -
                ACM-Net       40.0 36.8 33.9 30.5 27.0 24.0 20.2 15.9 11.0  6.1 24.5
                A2CL-PT       36.8    -    -    -    - 22.0    -    -    -  5.2    -
                AUMN          38.3    -    -    -    - 23.5    -    -    -  5.2    -
                ASM-Loc       41.0    -    -    -    - 24.9    -    -    -  6.2    -
            """,
        },
    ),
    _table(
        "twostream/3",
        "loss terms",
        _THUMOS,
        """
            fg                62.8 56.0 45.8 37.1 26.7 17.4  8.5 36.3
            fg+bg             63.4 57.9 47.6 38.7 27.4 18.2  9.0 37.5
            fg+bg+ct          67.6 61.7 52.5 42.7 31.9 20.8 10.1 41.0
            fg+bg+ct+gui      70.2 65.2 55.6 45.4 32.8 21.3 10.8 43.0
            fg+bg+ct+gui+smt  73.0 68.2 60.0 47.9 37.1 24.4 12.7 46.2
        """,
    ),
    _table(
        "twostream/4",
        "loss terms",
        _ANET,
        """
            fg                37.8 35.1 32.2 29.4 25.8 22.8 19.5 15.8 11.0  5.7 23.5
            fg+bg             38.4 35.3 32.4 29.7 26.4 23.3 19.8 16.0 11.3  5.9 23.9
            fg+bg+ct          39.2 36.3 33.6 30.8 27.5 24.3 20.6 16.4 11.6  6.0 24.6
            fg+bg+ct+gui      39.7 36.7 34.1 31.2 28.0 24.6 21.0 16.5 11.7  6.0 25.0
            fg+bg+ct+gui+smt  41.8 38.5 35.8 32.6 29.2 25.7 22.7 17.5 12.6  6.5 26.3
        """,
    ),
    _table(
        "twostream/5",
        "branches, with the three classification losses",
        _THUMOS,
        """
            attention only  57.1 50.5 41.0 30.9 20.6 11.0  4.7 30.8
            MIL only        63.6 57.0 47.3 35.9 24.7 15.5  8.2 36.0
            both            67.6 61.7 52.5 42.7 31.9 20.8 10.1 41.0
        """,
    ),
    _table(
        "twostream/6",
        "branches, with the three classification losses",
        _ANET,
        """
            attention only  25.5 23.5 21.5 19.6 17.2 14.9 12.8 10.2  7.1  3.7 15.6
            MIL only        36.4 33.7 31.1 28.3 25.3 22.2 19.0 14.8 10.4  5.4 22.7
            both            39.2 36.3 33.6 30.8 27.5 24.3 20.6 16.4 11.6  6.0 24.6
        """,
    ),
)
TABLES = {table.key: table for table in _TABLES}
