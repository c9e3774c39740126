//! Functions of a time in Unix seconds, all in UTC.

/// A field of a date, by the name of its PromQL function.
pub fn by_name(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "minute" => |v| (seconds(v).rem_euclid(3600) / 60) as f64,
        "hour" => |v| (seconds(v).rem_euclid(86_400) / 3600) as f64,
        "day_of_week" => |v| (days(v) + 4).rem_euclid(7) as f64,
        "day_of_month" => |v| civil(days(v)).2 as f64,
        "day_of_year" => |v| {
            let (year, ..) = civil(days(v));
            (days(v) - days_from_civil(year, 1, 1) + 1) as f64
        },
        "days_in_month" => |v| {
            let (year, month, _) = civil(days(v));
            let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
            (days_from_civil(next_year, next, 1) - days_from_civil(year, month, 1)) as f64
        },
        "month" => |v| civil(days(v)).1 as f64,
        "year" => |v| civil(days(v)).0 as f64,
        _ => return None,
    })
}

/// Whole seconds. A value that is not a 64-bit number of seconds, including NaN, becomes 2^63, far
/// in the future: that is the result of the conversion on x86 processors and of Go's calendar,
/// which has no times so far in the past. Times that are less far but before the beginning of that
/// calendar also become times in the future.
fn seconds(v: f64) -> i128 {
    const BEFORE_1970: i128 = (292_277_022_400 / 400 * 146_097 + 306) * 86_400 + 62_135_596_800;
    let in_range = v >= i64::MIN as f64 && v < -(i64::MIN as f64);
    let seconds = i128::from(if in_range { v as i64 } else { i64::MIN });
    if seconds < -BEFORE_1970 { seconds + (1 << 64) } else { seconds }
}

fn days(v: f64) -> i64 {
    seconds(v).div_euclid(86_400) as i64
}

/// Year, month and day of a number of days since 1970-01-01 in the proleptic Gregorian calendar, by
/// eras of 400 years that begin in March.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_known_moments() {
        let at = |name: &str, v: f64| by_name(name).map(|f| f(v));
        // 2024-02-29T13:14:15Z, a Thursday
        let t = 1_709_212_455.0;
        for (name, expected) in [
            ("year", 2024.0),
            ("month", 2.0),
            ("day_of_month", 29.0),
            ("days_in_month", 29.0),
            ("day_of_year", 60.0),
            ("day_of_week", 4.0),
            ("hour", 13.0),
            ("minute", 14.0),
        ] {
            assert_eq!(at(name, t), Some(expected), "{name}");
        }
        assert_eq!(at("year", -1.0), Some(1969.0));
        assert!(at("year", f64::NAN).is_some() && at("year", 1e300).is_some());
    }

    #[test]
    fn civil_dates_round_trip() {
        for day in (-800_000..800_000).step_by(371) {
            let (y, m, d) = civil(day);
            assert_eq!(days_from_civil(y, m, d), day);
        }
    }
}
