//! The knobs of BPF programs that another process loaded, as the kernel has them.

use aya::maps::{Array, Map, MapData, loaded_maps};

/// See the module.
pub struct LoadedKnobs(Array<MapData, [u64; 4]>);

impl LoadedKnobs {
    /// Those of the programs that were loaded with this threshold, which no other smilat here has.
    ///
    /// # Panics
    /// When there are none.
    #[track_caller]
    pub fn with_threshold(ns: u64) -> Self {
        loaded_maps()
            .filter_map(Result::ok)
            .filter(|map| map.name_as_str() == Some("KNOBS"))
            .filter_map(|map| MapData::from_id(map.id()).ok())
            .filter_map(|data| Array::try_from(Map::Array(data)).ok())
            .map(Self)
            .find(|knobs| knobs.threshold_ns() == ns)
            .expect("the programs' knobs")
    }

    /// The threshold now.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn threshold_ns(&self) -> u64 {
        self.values()[0]
    }

    /// The number of the interval under way.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn interval(&self) -> u64 {
        self.values()[2]
    }

    /// `smi_common::Knobs`, number by number.
    fn values(&self) -> [u64; 4] {
        self.0.get(&0, 0).expect("a value")
    }
}
