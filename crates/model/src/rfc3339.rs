//! Points of time as RFC 3339 text, proleptic Gregorian calendar, to the millisecond. The year 0000
//! is valid: flags use it for "from the beginning".

use crate::time::TimestampMs;

const DAY_MS: i64 = 86_400_000;

/// In UTC, with as many decimals as needed, as Go's `time.RFC3339Nano`.
pub fn format(time: TimestampMs) -> String {
    let (days, ms) = (time.0.div_euclid(DAY_MS), time.0.rem_euclid(DAY_MS));
    let (year, month, day) = civil_from_days(days);
    let (seconds, millis) = (ms / 1000, ms % 1000);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}");
    if millis > 0 {
        text.push_str(format!(".{millis:03}").trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// Decimals beyond the millisecond are cut off.
pub fn parse(text: &str) -> Option<TimestampMs> {
    let (date, clock) = text.split_once(['T', 't'])?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    if date.next().is_some()
        || !(0..=9999).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
    {
        return None;
    }
    let zone_at = clock.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = clock.split_at(zone_at);
    let offset_minutes = match zone.as_bytes() {
        b"Z" | b"z" => 0,
        [sign, rest @ ..] => {
            let (h, m) = std::str::from_utf8(rest).ok()?.split_once(':')?;
            let minutes = i64::from(h.parse::<u8>().ok()?) * 60 + i64::from(m.parse::<u8>().ok()?);
            if *sign == b'-' { -minutes } else { minutes }
        }
        [] => return None,
    };
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut whole = whole.split(':').map(|part| part.parse::<i64>().ok());
    let (h, m, s) = (whole.next()??, whole.next()??, whole.next()??);
    if whole.next().is_some()
        || !(0..24).contains(&h)
        || !(0..60).contains(&m)
        || !(0..=60).contains(&s)
    {
        return None;
    }
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis: i64 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let ms = ((h * 60 + m - offset_minutes) * 60 + s) * 1000 + millis;
    Some(TimestampMs(days_from_civil(year, month, day) * DAY_MS + ms))
}

/// Days since 1970-01-01. Years are counted from March, so that the leap day is the last of its
/// year.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year_of_era, if month < 10 { month + 3 } else { month - 9 });
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-01T00:00:00Z", 1_767_225_600_000),
            ("2024-02-29T23:59:59.25Z", 1_709_251_199_250),
            ("2000-03-01T00:00:00.001Z", 951_868_800_001),
        ] {
            assert_eq!(parse(text), Some(TimestampMs(ms)), "{text}");
            assert_eq!(format(TimestampMs(ms)), text);
        }
        assert_eq!(parse("2026-11-22T11:58:09.188739794Z"), parse("2026-11-22T12:58:09.188+01:00"));
    }

    #[test]
    fn broken_times_are_none() {
        for text in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.é1Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_three_centuries_round_trips() {
        for day in -40_000..80_000 {
            let time = TimestampMs(day * DAY_MS + 1234);
            assert_eq!(parse(&format(time)), Some(time));
        }
    }
}
