//! `smilat run --dma-latency` on stock kernels.

use crate::idle;

pub(super) fn the_dma_latency_holds_as_long_as_smilat_lives() {
    idle::the_limit_holds_as_long_as_smilat_lives();
    idle::the_plan_names_the_limit_and_a_lower_one();
}
