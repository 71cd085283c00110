//! Freezes: windows, absolute (`2026-12-20 00:00`) or weekly (`Fri 16:00`), in which nothing is deployed.

use jiff::civil::{DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::deploy::Freeze;
use crate::error::{CliError, CliResult};

const MINUTES_OF_A_WEEK: i64 = 7 * 24 * 60;

/// The first of the windows that `now` lies in. A window begins with its `from` and ends before its `until`.
///
/// # Errors
/// A window can't be read; says which and how it is written.
pub fn frozen(windows: &[Freeze], now: Timestamp) -> CliResult<Option<&Freeze>> {
    for window in windows {
        if contains(window, now)? {
            return Ok(Some(window));
        }
    }
    Ok(None)
}

enum Moment {
    Weekly(i64),
    Once(DateTime),
}

fn contains(window: &Freeze, now: Timestamp) -> CliResult<bool> {
    let wrong = |what: String| {
        CliError::usage(format!("the freeze from `{}` until `{}` {what}", window.from, window.until)).hint(
            "write `2026-12-20 00:00` or weekly `Fri 16:00`, both ends alike, and `zone` as `Europe/Berlin`",
        )
    };
    let zone = match &window.zone {
        Some(name) => TimeZone::get(name).map_err(|e| wrong(format!("has no time zone: {e}")))?,
        None => TimeZone::UTC,
    };
    let read = |text: &str| moment(text).ok_or_else(|| wrong(format!("can't be read: `{text}`")));
    match (read(&window.from)?, read(&window.until)?) {
        (Moment::Weekly(from), Moment::Weekly(until)) if from != until => {
            let minute = minute_of_week(&now.to_zoned(zone));
            let into = (minute - from).rem_euclid(MINUTES_OF_A_WEEK);
            Ok(into < (until - from).rem_euclid(MINUTES_OF_A_WEEK))
        }
        (Moment::Once(from), Moment::Once(until)) if from < until => {
            let at = |time: DateTime| {
                let time = time.to_zoned(zone.clone());
                time.map(|time| time.timestamp()).map_err(|e| wrong(format!("can't be read: {e}")))
            };
            Ok(at(from)? <= now && now < at(until)?)
        }
        (Moment::Weekly(_), Moment::Weekly(_)) | (Moment::Once(_), Moment::Once(_)) => {
            Err(wrong("ends no later than it begins".to_owned()))
        }
        _ => Err(wrong("has one end that is weekly and one that is not".to_owned())),
    }
}

fn moment(text: &str) -> Option<Moment> {
    let text = text.trim();
    let (day, time) = text.split_once(' ').unwrap_or((text, "00:00"));
    if let Some(day) = weekday(day) {
        let (hour, minute) = time.trim().split_once(':')?;
        let two = |text: &str, limit: i64| {
            let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<i64>().ok().filter(|n| digits && *n < limit)
        };
        let minutes = two(hour, 24)? * 60 + two(minute, 60)?;
        return Some(Moment::Weekly(i64::from(day.to_monday_zero_offset()) * 24 * 60 + minutes));
    }
    let text = if text.contains(':') { text.replacen(' ', "T", 1) } else { format!("{text}T00:00") };
    text.parse().ok().map(Moment::Once)
}

fn weekday(text: &str) -> Option<Weekday> {
    use Weekday::{Friday, Monday, Saturday, Sunday, Thursday, Tuesday, Wednesday};
    let names = [
        ("monday", Monday),
        ("tuesday", Tuesday),
        ("wednesday", Wednesday),
        ("thursday", Thursday),
        ("friday", Friday),
        ("saturday", Saturday),
        ("sunday", Sunday),
    ];
    let text = text.to_ascii_lowercase();
    names.into_iter().find(|(name, _)| *name == text || name[..3] == text).map(|(_, day)| day)
}

fn minute_of_week(time: &Zoned) -> i64 {
    i64::from(time.weekday().to_monday_zero_offset()) * 24 * 60
        + i64::from(time.hour()) * 60
        + i64::from(time.minute())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(from: &str, until: &str, zone: Option<&str>) -> Freeze {
        Freeze {
            from: from.into(),
            until: until.into(),
            zone: zone.map(str::to_owned),
            reason: String::new(),
        }
    }

    #[test]
    fn windows_begin_with_their_start_and_end_before_their_end() {
        let berlin = Some("Europe/Berlin");
        // 2026-11-20 is a Friday; Berlin is at +01:00 then, and at +02:00 in July
        let cases = [
            ("Fri 16:00", "Mon 08:00", None, "2026-11-20T15:59:59Z", false),
            ("Fri 16:00", "Mon 08:00", None, "2026-11-20T16:00:00Z", true),
            ("friday 16:00", "Mon 8:00", None, "2026-11-22T12:00:00Z", true),
            ("Fri 16:00", "Mon 08:00", None, "2026-11-23T08:00:00Z", false),
            ("Fri 16:00", "Mon 08:00", berlin, "2026-11-20T15:00:00Z", true),
            ("Fri 16:00", "Mon 08:00", berlin, "2026-07-17T13:59:59Z", false),
            ("Fri 16:00", "Mon 08:00", berlin, "2026-07-17T14:00:00Z", true),
            ("2026-12-20 00:00", "2027-01-04 06:00", berlin, "2026-12-19T22:59:59Z", false),
            ("2026-12-20 00:00", "2027-01-04 06:00", berlin, "2026-12-19T23:00:00Z", true),
            ("2026-12-20", "2027-01-04", None, "2027-01-04T00:00:00Z", false),
        ];
        for (from, until, zone, now, expected) in cases {
            let windows = [window(from, until, zone)];
            let found = frozen(&windows, now.parse().unwrap()).unwrap();
            assert_eq!(found.is_some(), expected, "{from} {until} {zone:?} {now}");
        }
    }

    #[test]
    fn a_window_that_makes_no_sense_is_an_error_and_never_open() {
        for (from, until, zone) in [
            ("Fri 16:00", "Fri 16:00", None),
            ("Fri 16:00", "2026-12-20 00:00", None),
            ("2026-12-20 00:00", "2026-12-19 00:00", None),
            ("Fri 25:00", "Mon 08:00", None),
            ("sometimes", "Mon 08:00", None),
            ("Fri 16:00", "Mon 08:00", Some("Europe/Nowhere")),
        ] {
            let windows = [window(from, until, zone)];
            assert!(frozen(&windows, Timestamp::UNIX_EPOCH).is_err(), "{from} {until} {zone:?}");
        }
    }

    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

    fn written(minute: i64) -> String {
        let day = DAYS[usize::try_from(minute / 1440).unwrap()];
        format!("{day} {:02}:{:02}", minute / 60 % 24, minute % 60)
    }

    proptest! {
        #[test]
        fn a_weekly_window_and_its_complement_share_the_week(
            from in 0..MINUTES_OF_A_WEEK,
            until in 0..MINUTES_OF_A_WEEK,
            second in 0i64..4_000_000_000,
        ) {
            prop_assume!(from != until);
            let inside = [window(&written(from), &written(until), None)];
            let outside = [window(&written(until), &written(from), None)];
            let at = |second: i64| Timestamp::from_second(second).unwrap();
            let is_in = frozen(&inside, at(second)).unwrap().is_some();
            prop_assert_ne!(is_in, frozen(&outside, at(second)).unwrap().is_some());
            let next_week = at(second + 7 * 24 * 3600);
            prop_assert_eq!(is_in, frozen(&inside, next_week).unwrap().is_some());
            // the epoch was a Thursday
            let minute = (second / 60 + 3 * 1440) % MINUTES_OF_A_WEEK;
            let expected = if from < until {
                from <= minute && minute < until
            } else {
                minute >= from || minute < until
            };
            prop_assert_eq!(is_in, expected);
        }

        #[test]
        fn an_absolute_window_holds_what_lies_between(a in 0i64..2_000_000, b in 0i64..2_000_000, now in 0i64..2_000_000) {
            prop_assume!(a / 60 != b / 60);
            let (from, until) = (a.min(b) / 60 * 60, a.max(b) / 60 * 60);
            let text = |second: i64| {
                Timestamp::from_second(second).unwrap().strftime("%Y-%m-%d %H:%M").to_string()
            };
            let windows = [window(&text(from), &text(until), None)];
            let is_in = frozen(&windows, Timestamp::from_second(now).unwrap()).unwrap().is_some();
            prop_assert_eq!(is_in, from <= now && now < until);
        }
    }
}
