"""Every detector: its name, its factory, its paper, and the loss it learns from."""

from __future__ import annotations

from delineate.models.entry import ModelEntry

_SSD = "Liu, Anguelov, Erhan, Szegedy, Reed, Fu, Berg: SSD: Single Shot MultiBox Detector, ECCV"
_FASTER = "Ren, He, Girshick, Sun: Faster R-CNN: Towards Real-Time Object Detection with Region Proposal Networks, NIPS"
_MASK = "He, Gkioxari, Dollar, Girshick: Mask R-CNN, ICCV"

DETECTION_ENTRIES = (
    ModelEntry(
        "localizer",
        "delineate.models.localizer:localizer",
        "detection",
        "Sermanet, Eigen, Zhang, Mathieu, Fergus, LeCun: OverFeat: Integrated Recognition, Localization and Detection "
        "using Convolutional Networks, ICLR",
        2014,
        "one class and one box for an image, or for exactly so many objects",
        "resnet18",
        "localisation",
    ),
    ModelEntry(
        "multibox",
        "delineate.models.multibox:multibox",
        "detection",
        "Erhan, Szegedy, Toshev, Anguelov: Scalable Object Detection using Deep Neural Networks, CVPR",
        2014,
        "a fixed number of boxes around priors from k-means, matched to objects one to one",
        "alexnet",
        "bipartite_multibox",
    ),
    ModelEntry(
        "yolov1",
        "delineate.models.yolov1:yolov1",
        "detection",
        "Redmon, Divvala, Girshick, Farhadi: You Only Look Once: Unified, Real-Time Object Detection, CVPR",
        2016,
        "one look: classes and two boxes for every cell of a 7 x 7 grid",
        loss="yolo",
    ),
    ModelEntry(
        "yolov2",
        "delineate.models.yolov2:yolov2",
        "detection",
        "Redmon, Farhadi: YOLO9000: Better, Faster, Stronger, CVPR",
        2017,
        "Darknet-19 with priors in every cell and a passthrough of finer features; any multiple of 32",
        loss="yolov2",
    ),
    ModelEntry(
        "yolo9000",
        "delineate.models.yolo9000:yolo9000",
        "detection",
        "Redmon, Farhadi: YOLO9000: Better, Faster, Stronger, CVPR",
        2017,
        "Darknet-19 with a tree of words for classes; learns from boxes and from images that are only named",
        loss="yolov2",
    ),
    ModelEntry(
        "ssd300",
        "delineate.models.ssd:ssd300",
        "detection",
        _SSD,
        2016,
        "8,732 default boxes on six maps of VGG16 and what follows it; images of 300 x 300",
        loss="multibox",
    ),
    ModelEntry(
        "ssd512",
        "delineate.models.ssd:ssd512",
        "detection",
        _SSD,
        2016,
        "24,564 default boxes on seven maps; images of 512 x 512",
        loss="multibox",
    ),
    ModelEntry(
        "retinanet",
        "delineate.models.retinanet:retinanet",
        "detection",
        "Lin, Goyal, Girshick, He, Dollar: Focal Loss for Dense Object Detection, ICCV",
        2017,
        "one stage on a feature pyramid, with a loss that turns easy background down; on any encoder",
        "resnet50",
        "focal_detection",
    ),
    ModelEntry(
        "faster_rcnn",
        "delineate.models.faster_rcnn:faster_rcnn",
        "detection",
        _FASTER,
        2015,
        "two stages on a feature pyramid: where something is, then what; on any encoder",
        "resnet50",
        "region_detection",
    ),
    ModelEntry(
        "faster_rcnn_vgg16",
        "delineate.models.faster_rcnn:faster_rcnn_vgg16",
        "detection",
        _FASTER,
        2015,
        "the paper's own: proposals and regions from VGG16's last convolution",
        loss="region_detection",
    ),
    ModelEntry(
        "mask_rcnn",
        "delineate.models.mask_rcnn:mask_rcnn",
        "instances",
        _MASK,
        2017,
        "Faster R-CNN with a mask for every object it finds; on any encoder",
        "resnet50",
        "instance_detection",
    ),
    ModelEntry(
        "keypoint_rcnn",
        "delineate.models.mask_rcnn:keypoint_rcnn",
        "keypoints",
        _MASK,
        2017,
        "Faster R-CNN with a map for every joint of what it finds; on any encoder",
        "resnet50",
        "instance_detection",
    ),
)
