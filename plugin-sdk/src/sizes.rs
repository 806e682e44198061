//! Chooses a volume's size within a range, so that no driver gets the corners wrong.

use crate::{CapacityRange, Refusal};

impl CapacityRange {
    /// Does a volume of `size` bytes satisfy the range?
    pub fn admits(&self, size: u64) -> bool {
        size >= self.required && (self.limit == 0 || size <= self.limit)
    }
}

/// The sizes that a driver can make, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The smallest volume.
    pub smallest: u64,
    /// The largest volume.
    pub largest: u64,
    /// What one gets who asks for nothing.
    pub default: u64,
    /// Sizes are multiples of this, where the limit allows it.
    pub unit: u64,
    /// Sizes are multiples of this at least; no device is exact below a sector.
    pub sector: u64,
}

impl Sizes {
    /// The smallest size that satisfies `range`, or a refusal ([`Refusal::OutOfRange`]) that says what would be possible.
    ///
    /// Rounded up to the unit, but never past the limit: where no multiple of the unit lies within the range, the sector decides.
    ///
    /// ```
    /// use windlass_plugin_sdk::{CapacityRange, Sizes};
    ///
    /// let sizes = Sizes { smallest: 1 << 20, largest: 1 << 40, default: 1 << 30, unit: 4096, sector: 512 };
    /// let choose = |required, limit| sizes.choose(&CapacityRange { required, limit }).ok();
    /// assert_eq!(choose(0, 0), Some(1 << 30));
    /// assert_eq!(choose(10_000_000_001, 0), Some(10_000_003_072));
    /// assert_eq!(choose(10_000_000_000, 10_000_000_000), Some(10_000_000_000)); // 512 divides it, 4096 does not
    /// assert_eq!(choose(10_000_001, 10_000_001), None);
    /// ```
    pub fn choose(&self, range: &CapacityRange) -> Result<u64, Refusal> {
        let limit = if range.limit == 0 { self.largest } else { range.limit.min(self.largest) };
        if range.limit != 0 && range.required > range.limit {
            return Err(Refusal::out_of_range(format!("required_bytes ({}) is more than limit_bytes ({})", range.required, range.limit)));
        }
        if range.required > self.largest {
            return Err(Refusal::out_of_range(format!("{} bytes are asked for, and a volume has at most {}", range.required, self.largest)));
        }
        if limit < self.smallest {
            return Err(Refusal::out_of_range(format!("at most {limit} bytes are allowed, and a volume so used has at least {}", self.smallest)));
        }
        let wanted = if range.required == 0 { self.default.min(limit / self.unit * self.unit) } else { range.required }.max(self.smallest);
        [self.unit, self.sector].into_iter().filter_map(|unit| wanted.checked_next_multiple_of(unit)).find(|size| *size <= limit).ok_or_else(|| {
            Refusal::out_of_range(format!("no multiple of {} bytes lies between {} and {limit}, and sizes are multiples of it", self.sector, range.required))
        })
    }
}
