"""RoI heads and their parts."""

from cuts3d_mm.models.roi_heads.drop_loss_bbox_head import DropLossBBoxHead
from cuts3d_mm.models.roi_heads.sc_mask_head import SCMaskHead
from cuts3d_mm.models.roi_heads.single_mask_cascade_roi_head import SingleMaskCascadeRoIHead

__all__ = ['DropLossBBoxHead', 'SCMaskHead', 'SingleMaskCascadeRoIHead']
