"""The class ids that the synthetic drive paints: CamVid with 11 classes (`camvid11`)."""

SKY = 0
BUILDING = 1
POLE = 2
ROAD = 3
PAVEMENT = 4
TREE = 5
SIGN = 6
FENCE = 7
CAR = 8
PEDESTRIAN = 9
BICYCLIST = 10
COUNT = 11
