//! The table of domains: its columns, and its rows in the order asked for.

use super::{
    super::words::{per_second, show_net, show_rate, show_ratio},
    Data,
};
use crate::units::show_bytes;

/// A column that the table can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    /// Maps a second in the last interval.
    MapRate,
    /// Unmaps a second.
    UnmapRate,
    /// Bytes mapped a second.
    MappedRate,
    /// Unmaps for each map in the last interval.
    Ratio,
    /// Maps since start or reset.
    Maps,
    /// Unmaps since then.
    Unmaps,
    /// Unmaps of pieces since then.
    Pieces,
    /// Bytes that are mapped still of those mapped since start.
    Net,
}

impl Column {
    /// From left to right.
    pub const ALL: [Self; 8] = [
        Self::MapRate,
        Self::UnmapRate,
        Self::MappedRate,
        Self::Ratio,
        Self::Maps,
        Self::Unmaps,
        Self::Pieces,
        Self::Net,
    ];

    /// Its heading.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MapRate => "maps/s",
            Self::UnmapRate => "unmaps/s",
            Self::MappedRate => "mapped/s",
            Self::Ratio => "ratio",
            Self::Maps => "maps",
            Self::Unmaps => "unmaps",
            Self::Pieces => "pieces",
            Self::Net => "net mapped",
        }
    }

    /// Characters it takes, the space before it and the mark of the sorted one included.
    pub(super) fn width(self) -> usize {
        match self {
            Self::Ratio => 8,
            Self::MapRate | Self::Pieces => 9,
            Self::UnmapRate | Self::MappedRate | Self::Maps | Self::Unmaps => 11,
            Self::Net => 12,
        }
    }

    /// The higher, the longer it stays where there is little room.
    pub(super) fn importance(self) -> u8 {
        match self {
            Self::Maps => 0,
            Self::Unmaps => 1,
            Self::MappedRate => 2,
            Self::Net => 3,
            Self::Pieces => 4,
            Self::MapRate => 5,
            Self::Ratio => 6,
            Self::UnmapRate => 7,
        }
    }

    /// The one so many places on among `columns`, round and round.
    pub(super) fn moved(self, by: isize, columns: &[Self]) -> Self {
        let at = columns.iter().position(|column| *column == self);
        let at = at.unwrap_or(0).cast_signed() + by;
        let to = at.rem_euclid(columns.len().max(1).cast_signed());
        columns.get(to.cast_unsigned()).copied().unwrap_or(self)
    }
}

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) domain: u32,
    pub(super) kind: String,
    pub(super) devices: Vec<String>,
    pub(super) groups: Vec<u32>,
    pub(super) map_rate: f64,
    pub(super) unmap_rate: f64,
    pub(super) mapped_rate: f64,
    /// Maps and unmaps of the interval.
    pub(super) interval: (u64, u64),
    pub(super) maps: u64,
    pub(super) unmaps: u64,
    pub(super) pieces: u64,
    pub(super) net_bytes: i64,
}

impl Row {
    /// What the column shows.
    pub(super) fn text(&self, column: Column) -> String {
        match column {
            Column::MapRate => show_rate(self.map_rate),
            Column::UnmapRate => show_rate(self.unmap_rate),
            Column::MappedRate => show_bytes(self.mapped_rate as u64),
            Column::Ratio => show_ratio(self.interval.1, self.interval.0),
            Column::Maps => self.maps.to_string(),
            Column::Unmaps => self.unmaps.to_string(),
            Column::Pieces => self.pieces.to_string(),
            Column::Net => show_net(self.net_bytes),
        }
    }

    /// Unmaps for each map in the interval; none of either is the lowest, unmaps alone are the highest.
    pub(super) fn ratio(&self) -> f64 {
        match self.interval {
            (0, 0) => 0.0,
            (maps, unmaps) => unmaps as f64 / maps as f64,
        }
    }

    fn value(&self, column: Column) -> f64 {
        match column {
            Column::MapRate => self.map_rate,
            Column::UnmapRate => self.unmap_rate,
            Column::MappedRate => self.mapped_rate,
            Column::Ratio => self.ratio(),
            Column::Maps => self.maps as f64,
            Column::Unmaps => self.unmaps as f64,
            Column::Pieces => self.pieces as f64,
            Column::Net => self.net_bytes as f64,
        }
    }
}

/// A row for each domain, the highest in `column` first.
pub(super) fn rows(data: &Data, column: Column) -> Vec<Row> {
    let Some(newest) = &data.newest else {
        return Vec::new();
    };
    let ns = newest.interval_ns;
    let before = |domain: u32| {
        let baseline = data.baseline.as_ref()?;
        baseline.domains.iter().find(|of| of.domain == domain)
    };
    let mut rows: Vec<Row> = newest
        .domains
        .iter()
        .map(|of| {
            let before = before(of.domain);
            let since = |now: u64, then: Option<u64>| now.saturating_sub(then.unwrap_or(0));
            Row {
                domain: of.domain,
                kind: super::super::words::kind(of),
                devices: of.devices.clone(),
                groups: of.groups.clone(),
                map_rate: per_second(of.lately.maps, ns),
                unmap_rate: per_second(of.lately.unmaps, ns),
                mapped_rate: per_second(of.lately.map_bytes, ns),
                interval: (of.lately.maps, of.lately.unmaps),
                maps: since(of.maps.count, before.map(|then| then.maps.count)),
                unmaps: since(of.unmaps.count, before.map(|then| then.unmaps.count)),
                pieces: since(of.pieces, before.map(|then| then.pieces)),
                net_bytes: of.net_bytes(),
            }
        })
        .collect();
    rows.sort_by(|a, b| {
        let order = b.value(column).total_cmp(&a.value(column));
        order.then(a.domain.cmp(&b.domain))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iommu::made_up::snapshot;

    #[test]
    fn each_column_has_an_order_and_a_place() {
        let mut data = Data {
            newest: Some(snapshot()),
            ..Data::default()
        };
        let first = |data: &Data, column| rows(data, column)[0].domain;
        for (column, domain) in [
            (Column::MapRate, 2),
            (Column::UnmapRate, 2),
            (Column::MappedRate, 1),
            (Column::Ratio, 1),
            (Column::Maps, 2),
            (Column::Unmaps, 2),
            (Column::Pieces, 1),
            (Column::Net, 1),
        ] {
            assert_eq!(first(&data, column), domain, "{column:?}");
        }
        // Equals stand by number.
        data.baseline.clone_from(&data.newest);
        assert_eq!(first(&data, Column::Maps), 1);
        assert_eq!(rows(&data, Column::Maps)[0].maps, 0);
    }

    #[test]
    fn sorting_goes_round() {
        let all = &Column::ALL;
        assert_eq!(Column::Net.moved(1, all), Column::MapRate);
        assert_eq!(Column::MapRate.moved(-1, all), Column::Net);
        assert_eq!(Column::Ratio.moved(1, &[]), Column::Ratio);
    }
}
