"""Networks, and what sizemix does to any timm network: prove its sizes, recalibrate its batch norms."""

from sizemix.models import resnet_cifar

__all__ = ["resnet_cifar"]  # importing it registers its networks with timm
