//! From one unit of measurement to another, for the units that Home Assistant knows.
//!
//! A unit is a fraction of whole numbers of its family's own unit, so that `1234.5 Wh` are `1.2345 kWh` and not a hair more.

/// How a number in one unit becomes the same in another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    before: f64,
    times: f64,
    by: f64,
    after: f64,
}

/// A unit with how many of its family's own unit it is: the second number by the third.
type Unit = (&'static str, f64, f64);

const FAMILIES: &[&[Unit]] = &[
    POWER,
    APPARENT_POWER,
    REACTIVE_POWER,
    ENERGY,
    REACTIVE_ENERGY,
    VOLTAGE,
    CURRENT,
    FREQUENCY,
    PRESSURE,
    SPEED,
    LENGTH,
    AREA,
    VOLUME,
    VOLUME_FLOW,
    MASS,
    DATA_SIZE,
    DATA_RATE,
    DURATION,
    CONDUCTIVITY,
    BLOOD_GLUCOSE,
    CONCENTRATION,
    RATIO,
];

const POWER: &[Unit] =
    &[("W", 1.0, 1.0), ("mW", 1.0, 1e3), ("kW", 1e3, 1.0), ("MW", 1e6, 1.0), ("GW", 1e9, 1.0), ("TW", 1e12, 1.0)];
const APPARENT_POWER: &[Unit] = &[("VA", 1.0, 1.0), ("mVA", 1.0, 1e3), ("kVA", 1e3, 1.0)];
const REACTIVE_POWER: &[Unit] = &[("var", 1.0, 1.0), ("mvar", 1.0, 1e3), ("kvar", 1e3, 1.0)];
const ENERGY: &[Unit] = &[
    ("J", 1.0, 1.0),
    ("kJ", 1e3, 1.0),
    ("MJ", 1e6, 1.0),
    ("GJ", 1e9, 1.0),
    ("mWh", 18.0, 5.0),
    ("Wh", 3.6e3, 1.0),
    ("kWh", 3.6e6, 1.0),
    ("MWh", 3.6e9, 1.0),
    ("GWh", 3.6e12, 1.0),
    ("TWh", 3.6e15, 1.0),
    ("cal", 4_184.0, 1e3),
    ("kcal", 4_184.0, 1.0),
    ("Mcal", 4_184e3, 1.0),
    ("Gcal", 4_184e6, 1.0),
];
const REACTIVE_ENERGY: &[Unit] = &[("varh", 1.0, 1.0), ("kvarh", 1e3, 1.0)];
const VOLTAGE: &[Unit] = &[("V", 1.0, 1.0), ("µV", 1.0, 1e6), ("mV", 1.0, 1e3), ("kV", 1e3, 1.0), ("MV", 1e6, 1.0)];
const CURRENT: &[Unit] = &[("A", 1.0, 1.0), ("mA", 1.0, 1e3)];
const FREQUENCY: &[Unit] = &[("Hz", 1.0, 1.0), ("kHz", 1e3, 1.0), ("MHz", 1e6, 1.0), ("GHz", 1e9, 1.0)];
const PRESSURE: &[Unit] = &[
    ("Pa", 1.0, 1.0),
    ("mPa", 1.0, 1e3),
    ("hPa", 1e2, 1.0),
    ("kPa", 1e3, 1.0),
    ("mbar", 1e2, 1.0),
    ("cbar", 1e3, 1.0),
    ("bar", 1e5, 1.0),
    ("mmHg", 133_322_387_415.0, 1e9),
    ("inHg", 3_386_388_640_341.0, 1e9),
    ("psi", 6_894_757.0, 1e3),
];
const SPEED: &[Unit] = &[
    ("m/s", 1.0, 1.0),
    ("m/min", 1.0, 60.0),
    ("mm/s", 1.0, 1e3),
    ("km/h", 5.0, 18.0),
    ("mph", 1_609_344.0, 3.6e6),
    ("kn", 1_852.0, 3.6e3),
    ("ft/s", 3_048.0, 1e4),
    ("in/s", 254.0, 1e4),
    ("in/h", 254.0, 3.6e7),
    ("in/d", 254.0, 8.64e8),
    ("mm/h", 1.0, 3.6e6),
    ("mm/d", 1.0, 8.64e7),
];
const LENGTH: &[Unit] = &[
    ("m", 1.0, 1.0),
    ("mm", 1.0, 1e3),
    ("cm", 1.0, 1e2),
    ("km", 1e3, 1.0),
    ("in", 254.0, 1e4),
    ("ft", 3_048.0, 1e4),
    ("yd", 9_144.0, 1e4),
    ("mi", 1_609_344.0, 1e3),
    ("nmi", 1_852.0, 1.0),
];
const AREA: &[Unit] = &[
    ("m²", 1.0, 1.0),
    ("mm²", 1.0, 1e6),
    ("cm²", 1.0, 1e4),
    ("km²", 1e6, 1.0),
    ("in²", 64_516.0, 1e8),
    ("ft²", 9_290_304.0, 1e8),
    ("yd²", 83_612_736.0, 1e8),
    ("mi²", 2_589_988_110_336.0, 1e6),
    ("ac", 40_468_564_224.0, 1e7),
    ("ha", 1e4, 1.0),
];
const VOLUME: &[Unit] = &[
    ("m³", 1.0, 1.0),
    ("L", 1.0, 1e3),
    ("mL", 1.0, 1e6),
    ("gal", 3_785_411_784.0, 1e12),
    ("fl. oz.", 3_785_411_784.0, 128e12),
    ("ft³", 28_316_846_592.0, 1e12),
    ("CCF", 28_316_846_592.0, 1e10),
    ("MCF", 28_316_846_592.0, 1e9),
];
const VOLUME_FLOW: &[Unit] = &[
    ("m³/s", 1.0, 1.0),
    ("m³/min", 1.0, 60.0),
    ("m³/h", 1.0, 3.6e3),
    ("L/s", 1.0, 1e3),
    ("L/min", 1.0, 6e4),
    ("L/h", 1.0, 3.6e6),
    ("mL/s", 1.0, 1e6),
    ("ft³/min", 28_316_846_592.0, 60e12),
    ("gal/min", 3_785_411_784.0, 60e12),
    ("gal/h", 3_785_411_784.0, 3_600e12),
    ("gal/d", 3_785_411_784.0, 86_400e12),
];
const MASS: &[Unit] = &[
    ("g", 1.0, 1.0),
    ("µg", 1.0, 1e6),
    ("mg", 1.0, 1e3),
    ("kg", 1e3, 1.0),
    ("t", 1e6, 1.0),
    ("oz", 45_359_237.0, 16e5),
    ("lb", 45_359_237.0, 1e5),
    ("st", 635_029_318.0, 1e5),
];
const DATA_SIZE: &[Unit] = &[
    ("bit", 1.0, 1.0),
    ("kbit", 1e3, 1.0),
    ("Mbit", 1e6, 1.0),
    ("Gbit", 1e9, 1.0),
    ("B", 8.0, 1.0),
    ("kB", 8e3, 1.0),
    ("MB", 8e6, 1.0),
    ("GB", 8e9, 1.0),
    ("TB", 8e12, 1.0),
    ("PB", 8e15, 1.0),
    ("EB", 8e18, 1.0),
    ("ZB", 8e21, 1.0),
    ("YB", 8e24, 1.0),
    ("KiB", binary(1), 1.0),
    ("MiB", binary(2), 1.0),
    ("GiB", binary(3), 1.0),
    ("TiB", binary(4), 1.0),
    ("PiB", binary(5), 1.0),
    ("EiB", binary(6), 1.0),
    ("ZiB", binary(7), 1.0),
    ("YiB", binary(8), 1.0),
];
const DATA_RATE: &[Unit] = &[
    ("bit/s", 1.0, 1.0),
    ("kbit/s", 1e3, 1.0),
    ("Mbit/s", 1e6, 1.0),
    ("Gbit/s", 1e9, 1.0),
    ("B/s", 8.0, 1.0),
    ("kB/s", 8e3, 1.0),
    ("MB/s", 8e6, 1.0),
    ("GB/s", 8e9, 1.0),
    ("KiB/s", binary(1), 1.0),
    ("MiB/s", binary(2), 1.0),
    ("GiB/s", binary(3), 1.0),
];
const DURATION: &[Unit] = &[
    ("s", 1.0, 1.0),
    ("µs", 1.0, 1e6),
    ("ms", 1.0, 1e3),
    ("min", 60.0, 1.0),
    ("h", 3.6e3, 1.0),
    ("d", 86_400.0, 1.0),
    ("w", 604_800.0, 1.0),
];
const CONDUCTIVITY: &[Unit] = &[("µS/cm", 1.0, 1.0), ("mS/cm", 1e3, 1.0), ("S/cm", 1e6, 1.0)];
const BLOOD_GLUCOSE: &[Unit] = &[("mg/dL", 1.0, 1.0), ("mmol/L", 18.0, 1.0)];
const CONCENTRATION: &[Unit] = &[("µg/m³", 1.0, 1.0), ("mg/m³", 1e3, 1.0), ("g/m³", 1e6, 1.0)];
const RATIO: &[Unit] = &[("%", 1e7, 1.0), ("ppm", 1e3, 1.0), ("ppb", 1.0, 1.0)];

/// Their zeros are not the same, so these are not fractions of each other.
const TEMPERATURES: [&str; 3] = ["°C", "°F", "K"];

/// The units that something can be converted to.
pub fn known() -> impl Iterator<Item = &'static str> {
    TEMPERATURES.into_iter().chain(FAMILIES.iter().flat_map(|family| family.iter().map(|(name, ..)| *name)))
}

#[must_use]
pub fn is_known(unit: &str) -> bool {
    let unit = with_one_micro(unit);
    known().any(|known| known == unit)
}

/// The sign for "micro" has two forms, and Home Assistant went from one to the other.
fn with_one_micro(unit: &str) -> String {
    unit.replace('μ', "µ")
}

/// The bits of a unit of bytes whose prefix is a power of 1024.
const fn binary(power: u32) -> f64 {
    let mut bits = 8.0;
    let mut left = power;
    while left > 0 {
        bits *= 1024.0;
        left -= 1;
    }
    bits
}

impl Conversion {
    const NONE: Self = Self { before: 0.0, times: 1.0, by: 1.0, after: 0.0 };

    /// `None` if the two do not measure the same, or one of them is not known.
    #[must_use]
    pub fn between(from: &str, to: &str) -> Option<Self> {
        let (from, to) = (with_one_micro(from), with_one_micro(to));
        if from == to {
            return Some(Self::NONE);
        }
        if let Some(conversion) = Self::of_temperature(&from, &to) {
            return Some(conversion);
        }
        let find = |family: &&[Unit], name: &str| family.iter().find(|(known, ..)| *known == name).copied();
        let (from, to) = FAMILIES.iter().find_map(|family| find(family, &from).zip(find(family, &to)))?;
        let (times, by) = shortened(from.1 * to.2, from.2 * to.1);
        Some(Self { times, by, ..Self::NONE })
    }

    fn of_temperature(from: &str, to: &str) -> Option<Self> {
        let (before, times, by, after) = match (from, to) {
            ("°C", "°F") => (0.0, 9.0, 5.0, 32.0),
            ("°F", "°C") => (-32.0, 5.0, 9.0, 0.0),
            ("°C", "K") => (0.0, 1.0, 1.0, 273.15),
            ("K", "°C") => (-273.15, 1.0, 1.0, 0.0),
            ("°F", "K") => (-32.0, 5.0, 9.0, 273.15),
            ("K", "°F") => (-273.15, 9.0, 5.0, 32.0),
            _ => return None,
        };
        Some(Self { before, times, by, after })
    }

    #[must_use]
    pub fn apply(self, number: f64) -> f64 {
        (number + self.before) * self.times / self.by + self.after
    }
}

/// A fraction without what both numbers can be divided by.
fn shortened(times: f64, by: f64) -> (f64, f64) {
    let (mut common, mut rest) = (times, by);
    while rest != 0.0 {
        (common, rest) = (rest, common % rest);
    }
    (times / common, by / common)
}

#[cfg(test)]
mod tests {
    use super::{Conversion, FAMILIES, TEMPERATURES, is_known, known};

    fn check(number: f64, from: &str, to: &str, expected: f64) {
        let conversion = Conversion::between(from, to).unwrap_or_else(|| panic!("{from} to {to}"));
        let converted = conversion.apply(number);
        assert!((converted - expected).abs() <= expected.abs() * 1e-12, "{number} {from} are {converted} {to}");
    }

    // The expected numbers are those of Home Assistant's `unit_conversion`, which `tests/it/units.rs` asks for all pairs.
    #[test]
    fn numbers_become_what_home_assistant_makes_of_them() {
        check(1.0, "kWh", "MJ", 3.6);
        check(1.0, "kWh", "kcal", 860.420_650_095_602_3);
        check(10.0, "MWh", "Wh", 1e7);
        check(5.0, "mWh", "J", 18.0);
        check(100.0, "°C", "°F", 212.0);
        check(212.0, "°F", "°C", 100.0);
        check(300.0, "K", "°F", 80.33);
        check(29.92, "inHg", "hPa", 1_013.207_481_190_027);
        check(1.0, "psi", "kPa", 6.894_757);
        check(750.0, "mmHg", "bar", 0.999_917_905_612_5);
        check(36.0, "km/h", "m/s", 10.0);
        check(60.0, "mph", "kn", 52.138_574_514_038_87);
        check(1.0, "in/h", "mm/d", 609.6);
        check(1.0, "mi", "ft", 5_280.0);
        check(1.0, "nmi", "km", 1.852);
        check(1.0, "ac", "m²", 4_046.856_422_4);
        check(1.0, "gal", "L", 3.785_411_784);
        check(1.0, "fl. oz.", "mL", 29.573_529_562_5);
        check(1.0, "CCF", "m³", 2.831_684_659_2);
        check(1.0, "gal/min", "L/h", 227.124_707_04);
        check(1.0, "ft³/min", "m³/h", 1.699_010_795_52);
        check(1.0, "st", "lb", 14.0);
        check(16.0, "oz", "kg", 0.453_592_37);
        check(1.0, "GiB", "MB", 1_073.741_824);
        check(1.0, "YiB", "YB", 1.208_925_819_614_629_2);
        check(1.0, "MiB/s", "Mbit/s", 8.388_608);
        check(1.5, "d", "h", 36.0);
        check(5.0, "mmol/L", "mg/dL", 90.0);
        check(12.0, "%", "ppm", 120_000.0);
        check(3.0, "μg/m³", "µg/m³", 3.0);
    }

    #[test]
    fn a_power_of_ten_moves_the_point_and_nothing_else() {
        for (number, from, to, expected) in [
            (1_234.5, "Wh", "kWh", 1.2345),
            (0.1, "kW", "W", 100.0),
            (1_013.25, "hPa", "Pa", 101_325.0),
            (21.7, "mA", "A", 0.0217),
        ] {
            let converted = Conversion::between(from, to).unwrap().apply(number);
            assert_eq!(converted.to_bits(), f64::to_bits(expected), "{converted}");
        }
    }

    #[test]
    fn what_does_not_measure_the_same_cannot_be_converted() {
        for (from, to) in [("°C", "kWh"), ("W", "Wh"), ("W", "VA"), ("€", "kWh"), ("kWh", ""), ("w", "W")] {
            assert_eq!(Conversion::between(from, to), None, "{from} to {to}");
        }
    }

    #[test]
    fn a_unit_is_known_if_something_can_be_converted_to_it() {
        for unit in known() {
            let family = FAMILIES.iter().find(|family| family.iter().any(|(name, ..)| *name == unit));
            let others: Vec<&str> =
                family.map_or(TEMPERATURES.to_vec(), |family| family.iter().map(|of| of.0).collect());
            assert!(is_known(unit) && others.len() > 1, "{unit}");
            assert!(others.iter().all(|from| Conversion::between(from, unit).is_some()), "{unit}");
        }
        assert!(is_known("μg/m³") && is_known("µg/m³"));
        for unit in ["kw", "C", "kWh ", "€", ""] {
            assert!(!is_known(unit), "{unit}");
        }
    }

    #[test]
    fn every_conversion_can_be_undone() {
        for family in FAMILIES {
            for ((from, ..), (to, ..)) in family.iter().zip(family.iter().skip(1)) {
                let there = Conversion::between(from, to).unwrap().apply(12.5);
                check(there, to, from, 12.5);
            }
        }
    }
}
