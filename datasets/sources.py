"""Where to get the files of each benchmark, and their licences: data for `condsim check` and `condsim download`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Remote:
    """One file that needs no licence agreement."""

    url: str
    place: str
    """Path under the download folder: of the file, or of the archive's folder with this name."""
    size: int | None = None
    """Bytes."""
    checksum: str | None = None
    """"sha256:..." or "md5:..."."""
    unpack: bool = False


@dataclass(frozen=True)
class Source:
    """One part of a benchmark."""

    name: str
    home: str
    licence: str
    remotes: tuple[Remote, ...] = ()
    """Empty: download by hand from ``home``."""
    wanted: bool = True
    """False: downloaded only if ``parts`` names it."""


_GENECIS = "https://raw.githubusercontent.com/facebookresearch/genecis/main/genecis"
_CIRR = "https://raw.githubusercontent.com/Cuberick-Orion/CIRR/cirr_dataset"
_CIRCO = "https://raw.githubusercontent.com/miccunifi/CIRCO/main/annotations"
_COLA = "https://raw.githubusercontent.com/arijitray1993/COLA/main/data"
_FASHIONIQ = "https://raw.githubusercontent.com/XiaoxiaoGuo/fashion-iq/master"
_FREEDOM = "https://raw.githubusercontent.com/NikosEfth/freedom/main/data"
_VISUAL_GENOME = "https://cs.stanford.edu/people/rak248/VG_100K_2"
_GLDV2 = "https://s3.amazonaws.com/google-landmark"
_LASCO = "https://raw.githubusercontent.com/levymsn/LaSCo/main/downloads"
_COCO = "https://s3.amazonaws.com/images.cocodataset.org"
"""The storage behind images.cocodataset.org, which has no certificate of its own."""

GENECIS_TEMPLATES = Source(
    "templates",
    "https://github.com/facebookresearch/genecis",
    "CC BY-NC 4.0: not for commercial use",
    tuple(
        Remote(f"{_GENECIS}/{task}.json", f"genecis/{task}.json", size, f"sha256:{digest}")
        for task, size, digest in (
            ("focus_attribute", 1_970_459, "e41113c95bdd8ea5a4dc4dd8ad1c81792092495b8607df9a6f8ccda5907b2ff5"),
            ("change_attribute", 3_002_580, "5f258b0375f9ba656d289c6a925315a62d3443b962063aa5e019c272ff00b416"),
            ("focus_object", 857_208, "b61e465491794cdc051fe22759780c081bca7307836763e2630365511ee7d02d"),
            ("change_object", 856_870, "566f0806afcdbf7c20aac5e6734eb8309ae82f173f90fc9553d87b89ce3749ab"),
        )
    ),
)
VISUAL_GENOME = Source(
    "visual_genome",
    "https://homes.cs.washington.edu/~ranjay/visualgenome",
    "CC BY 4.0; the photographs are Flickr users', each under its own terms",
    (
        Remote(f"{_VISUAL_GENOME}/images.zip", "visual_genome/VG_100K", 9_731_705_982, unpack=True),
        Remote(f"{_VISUAL_GENOME}/images2.zip", "visual_genome/VG_100K_2", 5_471_658_058, unpack=True),
    ),
)
COCO = Source(
    "coco",
    "https://cocodataset.org",
    "annotations CC BY 4.0; the photographs are Flickr users', each under its own terms",
    (
        Remote(
            f"{_COCO}/zips/val2017.zip",
            "coco/val2017",
            815_585_330,
            "md5:442b8da7639aecaf257c1dceb8ba8c80",
            unpack=True,
        ),
    ),
)
COCO_PANOPTIC = Source(
    "coco_panoptic",
    "https://cocodataset.org",
    "CC BY 4.0; only for building templates of your own",
    (Remote(f"{_COCO}/annotations/panoptic_annotations_trainval2017.zip", "coco/annotations", unpack=True),),
    wanted=False,
)
COLA_PAIRS = Source(
    "annotations",
    "https://github.com/arijitray1993/COLA",
    "as its repository says; the images are Visual Genome's, and each entry links its own",
    (Remote(f"{_COLA}/COLA_multiobjects_matching_benchmark.json", "cola/multiobjects.json"),),
)
CIRR_ANNOTATIONS = Source(
    "annotations",
    "https://github.com/Cuberick-Orion/CIRR",
    "MIT",
    tuple(
        Remote(f"{_CIRR}/{path}", f"cirr/{path}", size, checksum)
        for path, size, checksum in (
            (
                "captions/cap.rc2.val.json",
                1_609_916,
                "sha256:a85c3a1aa464f1af7229918e8018d08b8b20ce5dab479ffdf39d61113140f919",
            ),
            (
                "captions/cap.rc2.test1.json",
                1_254_129,
                "sha256:26a2b2e7a5c96c903491aefc7d5f237f03d3cca97712e1b6bb3b231db5ff8001",
            ),
            (
                "image_splits/split.rc2.train.json",
                969_680,
                "sha256:7b3f2211ff67e527190754ab778321a3c83f0baa6150d1e6c19646ec25c3bcb9",
            ),
            (
                "image_splits/split.rc2.val.json",
                105_568,
                "sha256:de36f7a7219c8bb06347a67748cfc68405be7dad62853a1e31846c98e491235b",
            ),
            (
                "image_splits/split.rc2.test1.json",
                120_364,
                "sha256:bf2bb9ed0659c4aae35de72350652b9ab75d36a060211f826bec15c58ec12566",
            ),
            ("captions/cap.rc2.train.json", None, None),
        )
    ),
)
NLVR2_IMAGES = Source(
    "images", "https://lil.nlp.cornell.edu/nlvr", "NLVR2's own terms: request it with the authors' form"
)
CIRCO_ANNOTATIONS = Source(
    "annotations",
    "https://github.com/miccunifi/CIRCO",
    "CC BY-NC 4.0: not for commercial use",
    tuple(
        Remote(f"{_CIRCO}/{split}.json", f"circo/annotations/{split}.json", size, f"sha256:{digest}")
        for split, size, digest in (
            ("val", 111_978, "6b31a1dbc3c85627501d9a250f87708f24a27d74d6a65360b6ddd2537a154d04"),
            ("test", 167_660, "2f7c37e89220c990b6b0525d6f3ed63d3fc02e03ce336aa42a3b822841b14886"),
        )
    ),
)
COCO_UNLABELED_LIST = Source(
    "image_info",
    "https://cocodataset.org",
    "CC BY 4.0",
    (Remote(f"{_COCO}/annotations/image_info_unlabeled2017.zip", "circo/COCO2017_unlabeled/annotations", unpack=True),),
)
COCO_UNLABELED = Source(
    "images",
    "https://cocodataset.org",
    "the photographs are Flickr users', each under its own terms; 19 GB",
    (Remote(f"{_COCO}/zips/unlabeled2017.zip", "circo/COCO2017_unlabeled/unlabeled2017", unpack=True),),
    wanted=False,
)
FASHIONIQ_ANNOTATIONS = Source(
    "annotations",
    "https://github.com/XiaoxiaoGuo/fashion-iq",
    "Community Data License Agreement, as its README says",
    tuple(
        Remote(f"{_FASHIONIQ}/{path}", f"fashioniq/{path}", size, f"sha256:{digest}")
        for path, size, digest in (
            (
                "captions/cap.dress.val.json",
                397_427,
                "5e5117d45695df9c3ca91fac3e0bc49e6422ae9c8b3793f0ac9b3ab83adb7de9",
            ),
            (
                "captions/cap.shirt.val.json",
                398_072,
                "7b7ca3797b85dddfd83e74cdb4454cb63e3e7c09acef2590155efbacea6d7feb",
            ),
            (
                "captions/cap.toptee.val.json",
                391_897,
                "b4e09f428e6c255cc4b4ec46e77908305ab83075d82840c960be81af15cdc5eb",
            ),
            (
                "image_splits/split.dress.val.json",
                68_708,
                "21ff91d53c23859da91bfd49f3acc139b7f3a3dc944fc4e4a80194468cf14bab",
            ),
            (
                "image_splits/split.shirt.val.json",
                114_230,
                "b82effbf7352a6f828b38c45eb32e53d726bd4d6fd81d6290c81eeb2c68e3234",
            ),
            (
                "image_splits/split.toptee.val.json",
                96_716,
                "ee42b2505275dd7a19b11ddb88c9264aab2d77f4e59b075fb1c7c3095d02f412",
            ),
        )
    ),
)
FASHIONIQ_IMAGES = Source(
    "images",
    "https://github.com/hongwang600/fashion-iq-metadata",
    "Amazon's product photographs, by their addresses; many of the links are dead",
)
ICIR = Source("images and lists", "https://vrg.fel.cvut.cz/icir", "CC BY-NC-SA 4.0: not for commercial use")


def _freedom_lists(folder: str, *files: tuple[str, int | None, str | None]) -> Source:
    return Source(
        "lists",
        "https://github.com/NikosEfth/freedom",
        "MIT",
        tuple(
            Remote(f"{_FREEDOM}/{folder}/{name}", f"domain_conversion/{folder}/{name}", size, digest)
            for name, size, digest in files
        ),
    )


LTLL_LISTS = _freedom_lists(
    "ltll",
    ("full_files.csv", 28_323, "sha256:7deb04d632feb03412e30b9214ebfb088dacc08e7a3a2a2b4cdbdd69984a7f03"),
)
NICO_LISTS = _freedom_lists(
    "nico",
    ("query_files.csv", 420_171, "sha256:95301abc79823077ae96a01b5ead22c536eed95ff97409ba8ceb5d505b9a4191"),
    ("database_files.csv", None, None),
)
MINIDOMAINNET_LISTS = _freedom_lists(
    "minidn",
    ("query_files.csv", 149_889, "sha256:4c6ee96b541d4f5ef6855019f206f746893462f7e4b5d9aa2500cabc5a8dc496"),
    ("database_files.csv", None, None),
)
IMAGENET_LISTS = Source(
    "lists imgnet_targets.txt and imgnet_real_query.txt",
    "https://github.com/google-research/composed_image_retrieval",
    "Apache-2.0; linked from its README",
)
IMAGENET_R = Source(
    "images of ImageNet-R", "https://github.com/hendrycks/imagenet-r", "MIT; the renditions are their makers'"
)
IMAGENET_VAL = Source("validation images of ILSVRC2012", "https://image-net.org", "ImageNet's own terms, on request")
LTLL_IMAGES = Source("images", "https://users.cecs.anu.edu.au/~basura/beeldcanon", "for research, as its page says")
NICO_IMAGES = Source("images (DG_Benchmark.zip)", "https://nicochallenge.com", "for research, as its page says")
DOMAINNET_IMAGES = Source(
    "images of clipart, painting, real and sketch", "https://ai.bu.edu/M3SDA", "for research, as its page says"
)
REVISITOP = Source(
    "ground truth (gnd_<dataset>.pkl) and distractors", "https://github.com/filipradenovic/revisitop", "none is named"
)
OLD_TRUTH = Source(
    "ground truth (gnd_<dataset>.pkl)", "http://cmp.felk.cvut.cz/cnnimageretrieval/data/test", "none is named"
)
FLICKR100K = Source(
    "distractors (oxc1_100k)",
    "https://www.robots.ox.ac.uk/~vgg/data/oxbuildings/flickr100k.html",
    "Flickr users', each under its own terms",
)
INSTRE_TRUTH = Source(
    "ground truth (gnd_instre.mat in test_script.zip)",
    "https://cmp.felk.cvut.cz/~iscenahm/code.html",
    "none is named",
    (Remote("https://cmp.felk.cvut.cz/~iscenahm/files/test_script.zip", "instre/test_script", unpack=True),),
)
INSTRE_IMAGES = Source(
    "images (instre.tar.gz, 2.3 GB)", "ftp://ftp.irisa.fr/local/texmex/corpus/instre", "for research; none is named"
)
GLDV2_LISTS = Source(
    "lists",
    "https://github.com/cvdfoundation/google-landmark",
    "annotations CC BY 4.0",
    (
        Remote(f"{_GLDV2}/metadata/index.csv", "gldv2/index.csv"),
        Remote(f"{_GLDV2}/ground_truth/retrieval_solution_v2.1.csv", "gldv2/retrieval_solution_v2.1.csv"),
    ),
)
GLDV2_IMAGES = Source(
    "images (120 archives of index and test)",
    "https://github.com/cvdfoundation/google-landmark",
    "CC0 or public domain, as its page says",
)
PATTERNCOM = Source(
    "attribute lists (PatternCom/, Google Drive)", "https://github.com/billpsomas/rscir", "Apache-2.0, as its page says"
)
PATTERNNET = Source("images of PatternNet", "https://sites.google.com/view/zhouwx/dataset", "as its page says")
LASCO_LISTS = Source(
    "lists",
    "https://github.com/levymsn/LaSCo",
    "MIT",
    tuple(Remote(f"{_LASCO}/{name}", f"lasco/{name}") for name in ("lasco_val.json", "lasco_val_corpus.json")),
)
COCO_VAL2014 = Source(
    "images",
    "https://cocodataset.org",
    "the photographs are Flickr users', each under its own terms; 6 GB",
    (Remote(f"{_COCO}/zips/val2014.zip", "coco/val2014", unpack=True),),
    wanted=False,
)
MACIR = Source("images and lists (Google Drive)", "https://github.com/jaeseokbyun/MACIR", "none is named")
CSN_TRIPLETS = Source(
    "triplet lists and filenames.json (csn_zappos_triplets.zip)",
    "https://github.com/andreasveit/conditional-similarity-networks",
    "none is named; its get_data.py has the address",
)
UT_ZAP50K = Source(
    "images (ut-zap50k-images.zip)", "http://vision.cs.utexas.edu/projects/finegrained/utzap50k", "for research only"
)
INDIRECT = Source(
    "how the labels are made (experiments/*.ipynb)", "https://github.com/LSX-UniWue/InDiReCT", "none is named"
)
CARS = Source("images of Cars196", "https://ai.stanford.edu/~jkrause/cars/car_dataset.html", "for research")
CUB = Source("images of CUB-200-2011", "https://www.vision.caltech.edu/datasets/cub_200_2011", "for research")
DEEPFASHION = Source(
    "images and Anno_fine/", "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html", "for research, on request"
)
OXFORD = Source(
    "images", "https://www.robots.ox.ac.uk/~vgg/data/oxbuildings", "Flickr users', each under its own terms"
)
PARIS = Source(
    "images", "https://www.robots.ox.ac.uk/~vgg/data/parisbuildings", "Flickr users', each under its own terms"
)
MIT_STATES = Source(
    "images", "http://web.mit.edu/phillipi/Public/states_and_transformations", "for research; photographs of the web"
)
CLEVR4 = Source("images and labels", "https://www.robots.ox.ac.uk/~vgg/data/clevr4", "as its page says")
STANFORD40 = Source("images", "http://vision.stanford.edu/Datasets/40actions.html", "for research, as its page says")
ICTC_LABELS = Source("labels of location and mood", "https://github.com/sehyunkwon/ICTC", "as its page says")
CLAY_EVAL = Source("images and labels", "the page of the CLAY paper", "as its page says")
ILIAS = Source("images, tables and features", "https://ilias-1k.netlify.app", "as its page says")
INQUIRE = Source("images, queries and features", "https://github.com/inquire-benchmark/INQUIRE", "CC BY-NC 4.0")

SOURCES: Mapping[str, tuple[Source, ...]] = {
    "genecis": (GENECIS_TEMPLATES, VISUAL_GENOME, COCO, COCO_PANOPTIC),
    "mit_states": (MIT_STATES,),
    "cirr": (CIRR_ANNOTATIONS, NLVR2_IMAGES),
    "circo": (CIRCO_ANNOTATIONS, COCO_UNLABELED_LIST, COCO_UNLABELED),
    "cola": (COLA_PAIRS, replace(VISUAL_GENOME, wanted=False)),
    "fashioniq": (FASHIONIQ_ANNOTATIONS, FASHIONIQ_IMAGES),
    "icir": (ICIR,),
    "imagenet_r": (IMAGENET_LISTS, IMAGENET_R, IMAGENET_VAL),
    "imagenet_pic2word": (IMAGENET_LISTS, IMAGENET_R, IMAGENET_VAL),
    "minidomainnet": (MINIDOMAINNET_LISTS, DOMAINNET_IMAGES),
    "nico_pp": (NICO_LISTS, NICO_IMAGES),
    "ltll": (LTLL_LISTS, LTLL_IMAGES),
    "roxford5k": (REVISITOP, OXFORD),
    "rparis6k": (REVISITOP, PARIS),
    "oxford5k": (OLD_TRUTH, OXFORD, FLICKR100K),
    "paris6k": (OLD_TRUTH, PARIS, FLICKR100K),
    "instre": (INSTRE_TRUTH, INSTRE_IMAGES),
    "gldv2": (GLDV2_LISTS, GLDV2_IMAGES),
    "patterncom": (PATTERNCOM, PATTERNNET),
    "lasco": (LASCO_LISTS, COCO_VAL2014),
    "macir": (MACIR,),
    "zappos": (CSN_TRIPLETS, UT_ZAP50K),
    "cars196": (INDIRECT, CARS),
    "cub200": (INDIRECT, CUB),
    "deepfashion_inshop": (INDIRECT, DEEPFASHION),
    "movie_posters": (INDIRECT,),
    "synthetic_cars": (INDIRECT,),
    "clevr4": (CLEVR4,),
    "stanford40": (STANFORD40, ICTC_LABELS),
    "clay_object": (CLAY_EVAL,),
    "clay_human": (CLAY_EVAL,),
    "ilias": (ILIAS,),
    "inquire": (INQUIRE,),
}
"""Benchmark name -> its parts. A user's own benchmark has none."""

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "genecis": {"templates": "genecis", "visual_genome": "visual_genome", "coco": "coco"},
    "cirr": {"annotations": "cirr"},
    "circo": {"annotations": "circo", "images": "circo/COCO2017_unlabeled"},
    "cola": {"annotations": "cola/multiobjects.json", "images": "visual_genome"},
    "fashioniq": {"annotations": "fashioniq"},
    "minidomainnet": {"annotations": "domain_conversion"},
    "nico_pp": {"annotations": "domain_conversion"},
    "ltll": {"annotations": "domain_conversion"},
    "instre": {"annotations": "instre/test_script"},
    "gldv2": {"annotations": "gldv2"},
    "lasco": {"annotations": "lasco", "images": "coco/val2014"},
}
"""Benchmark name -> the options to set after a download, and the folder for each."""
