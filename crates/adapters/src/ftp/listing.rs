//! The lines of MLSD, LIST (Unix and DOS) and NLST, as bytes: names need not be UTF-8.
//!
//! Each line is a file, or something else that we know (a folder, a link, a total), or not
//! understood. A line that is not understood is reported, never silently dropped.

use adapter::Sighting;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// Longest line that is looked at. A name has at most 255 bytes nearly everywhere, a path 4096.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// One line of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    /// A regular file.
    File { name: Vec<u8>, sighting: Sighting },
    /// Known and of no interest: a folder, a link, a device, a total, an empty line.
    Other,
    /// Not understood.
    Strange,
}

/// `type=file;size=1024;modify=20261123120000; name` (RFC 3659, 7.2).
pub(super) fn mlsd(line: &[u8]) -> Line {
    if line.is_empty() {
        return Line::Other;
    }
    let Some(space) = line.iter().position(|byte| *byte == b' ') else {
        return Line::Strange;
    };
    let (facts, name) = (&line[..space], &line[space + 1..]);
    if !facts.contains(&b'=') {
        return Line::Strange;
    }
    match fact(facts, "type") {
        Some(kind) if kind.eq_ignore_ascii_case(b"file") => {}
        Some(_) => return Line::Other,
        // RFC 3659 lets a server leave the type out; then a look at the file must tell.
        None => {}
    }
    file(name, sighting_of_facts(facts))
}

/// Size and time of the line of facts that MLST answers.
pub(super) fn sighting_of_facts(facts: &[u8]) -> Sighting {
    let size = fact(facts, "size").and_then(number);
    let modified = fact(facts, "modify").and_then(moment);
    Sighting { bytes: size, modified_ms: modified, coarse: false }
}

/// Whether the facts of MLST are those of a file.
pub(super) fn is_file_by_facts(facts: &[u8]) -> bool {
    fact(facts, "type").is_none_or(|kind| kind.eq_ignore_ascii_case(b"file"))
}

/// A line of LIST. Its times have no zone and often no year; `today` finds the year.
pub(super) fn list(line: &[u8], today: Date) -> Line {
    let first = line.first().copied().unwrap_or(b' ');
    if line.trim_ascii().is_empty() || is_total(line) {
        return Line::Other;
    }
    if first.is_ascii_digit() {
        return dos(line);
    }
    match first {
        b'-' => unix(line, today),
        // Folder, link, device, pipe, socket, door: known by the mode bits that follow.
        b'd' | b'l' | b'b' | b'c' | b'p' | b's' | b'D' if has_mode_bits(line) => Line::Other,
        _ => Line::Strange,
    }
}

/// A line of NLST: a name, with some servers behind `./` or the folder that was listed (given here
/// without a slash at its end).
pub(super) fn nlst(line: &[u8], folder: &[u8]) -> Line {
    if line.is_empty() {
        return Line::Other;
    }
    let bare = line.strip_prefix(b"./").unwrap_or(line);
    let below = bare.strip_prefix(folder).and_then(|rest| rest.strip_prefix(b"/"));
    let bare = below.filter(|rest| !rest.is_empty()).unwrap_or(bare);
    file(bare, Sighting::default())
}

/// `YYYYMMDDHHMMSS` with or without a fraction, in UTC (RFC 3659, 2.3), as milliseconds.
pub(super) fn moment(text: &[u8]) -> Option<i64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits != 14 {
        return None;
    }
    let part = |range: std::ops::Range<usize>| number(&text[range]);
    let date = date(part(0..4)?, part(4..6)?, part(6..8)?)?;
    // A leap second is the second before, as POSIX has it.
    let second = part(12..14)?.min(59);
    let time = time(part(8..10)?, part(10..12)?, second)?;
    let fraction = text.get(15..).filter(|_| text.get(14) == Some(&b'.')).unwrap_or_default();
    let digit = |at: usize| fraction.get(at).filter(|b| b.is_ascii_digit()).map_or(0, |b| b - b'0');
    let millis = i64::from(digit(0)) * 100 + i64::from(digit(1)) * 10 + i64::from(digit(2));
    Some(milliseconds(date.to_datetime(time))? + millis)
}

fn fact<'a>(facts: &'a [u8], name: &str) -> Option<&'a [u8]> {
    facts.split(|byte| *byte == b';').find_map(|fact| {
        let equals = fact.iter().position(|byte| *byte == b'=')?;
        fact[..equals]
            .trim_ascii()
            .eq_ignore_ascii_case(name.as_bytes())
            .then(|| &fact[equals + 1..])
    })
}

/// A name that could escape its folder or break a command is no file for us.
fn file(name: &[u8], sighting: Sighting) -> Line {
    match name {
        b"." | b".." => Line::Other,
        b"" => Line::Strange,
        _ if name.iter().any(|byte| matches!(byte, b'/' | b'\r' | b'\n' | 0)) => Line::Strange,
        _ => Line::File { name: name.to_vec(), sighting },
    }
}

fn is_total(line: &[u8]) -> bool {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let head = words.next().unwrap_or_default();
    let number = words.next().is_some_and(|word| word.iter().all(u8::is_ascii_digit));
    // `total 12`, and in the languages that Unix servers are seen to speak.
    let heads: [&[u8]; 5] = [b"total", b"insgesamt", b"totaal", b"totale", b"itogo"];
    number && words.next().is_none() && heads.iter().any(|known| head.eq_ignore_ascii_case(known))
}

/// `drwxr-xr-x` and what stands for it: nine letters of a mode, or the brackets of NetWare.
fn has_mode_bits(line: &[u8]) -> bool {
    let mode = line.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    let is_mode = |byte: &u8| b"rwxsStTlL-".contains(byte);
    mode.len() == 1 || mode[1..].iter().take(9).filter(|byte| is_mode(byte)).count() == 9
}

/// A word of a line, and where it ends.
type Word<'a> = (&'a [u8], usize);

/// `-rw-r--r-- 1 user group 1024 Nov 23 12:00 name`: the columns before the size vary, so the date
/// is looked for. The name is all that follows it, spaces included.
fn unix(line: &[u8], today: Date) -> Line {
    let words = words(line);
    for (at, size) in words.iter().enumerate().skip(1) {
        let Some(bytes) = number(size.0) else {
            continue;
        };
        let Some((when, end)) = unix_date(&words[at + 1..], today) else {
            continue;
        };
        // One space parts time and name; more belong to the name.
        let Some(name) = line.get(end + 1..) else {
            continue;
        };
        let modified_ms = milliseconds(when);
        return file(name, Sighting { bytes: Some(bytes), modified_ms, coarse: true });
    }
    Line::Strange
}

/// The first words of a line, as many as columns can stand before a name.
fn words(line: &[u8]) -> Vec<Word<'_>> {
    const COLUMNS_MAX: usize = 16;
    let mut words = Vec::new();
    let mut at = 0;
    while at < line.len() && words.len() < COLUMNS_MAX {
        if line[at] == b' ' || line[at] == b'\t' {
            at += 1;
            continue;
        }
        let end = line[at..].iter().position(|b| matches!(b, b' ' | b'\t'));
        let end = end.map_or(line.len(), |length| at + length);
        words.push((&line[at..end], end));
        at = end;
    }
    words
}

/// `Nov 23 12:00`, `Nov 23 2025`, `23 Nov 12:00`, `2026-11-23 12:00`, with the end of its text.
fn unix_date(words: &[Word<'_>], today: Date) -> Option<(DateTime, usize)> {
    let (first, _) = *words.first()?;
    if let Some(date) = iso_date(first) {
        let (clock, mut end) = *words.get(1)?;
        let time = clock_time(clock)?;
        // `--full-time` adds a zone.
        if let Some((zone, zone_end)) = words.get(2)
            && clock.contains(&b'.')
            && matches!(zone, [b'+' | b'-', digits @ ..] if digits.len() == 4)
        {
            end = *zone_end;
        }
        return Some((date.to_datetime(time), end));
    }
    let (second, _) = *words.get(1)?;
    let (third, end) = *words.get(2)?;
    let day = |word: &[u8]| number(word.strip_suffix(b".").unwrap_or(word));
    let (month, day) = match (month(first), month(second)) {
        (Some(month), _) => (month, day(second)?),
        (None, Some(month)) => (month, day(first)?),
        (None, None) => return None,
    };
    if let Some(time) = clock_time(third) {
        return Some((recent(month, day, today)?.to_datetime(time), end));
    }
    // A size may look like a year before the first file was made.
    let year = number(third).filter(|year| third.len() == 4 && *year >= 1970)?;
    Some((date(year, month, day)?.to_datetime(Time::midnight()), end))
}

/// A date without a year lies in the past twelve months; tomorrow is allowed, because the server's
/// zone may be ahead. 29 February is looked for in the years before.
fn recent(month: u64, day: u64, today: Date) -> Option<Date> {
    const YEARS_BACK: i16 = 8; // 1896, 1904: leap years are at most eight years apart
    let latest = today.tomorrow().unwrap_or(today);
    let candidates = (0..=YEARS_BACK)
        .filter_map(|back| date(u64::try_from(latest.year() - back).ok()?, month, day));
    candidates.into_iter().find(|candidate| *candidate <= latest)
}

/// `11-23-26  01:45PM  <DIR>  name` or `11-23-2026  13:45  1,024 name`, as IIS and others do.
fn dos(line: &[u8]) -> Line {
    let words = words(line);
    let [(day, _), (clock, _), (size, end), ..] = words[..] else {
        return Line::Strange;
    };
    let (Some(date), Some(time)) = (dos_date(day), clock_time(clock)) else {
        return Line::Strange;
    };
    if size.first() == Some(&b'<') {
        return Line::Other; // <DIR>, <JUNCTION>, <SYMLINK>
    }
    let digits: Vec<u8> = size.iter().copied().filter(|b| !matches!(b, b',' | b'.')).collect();
    let (Some(bytes), Some(name)) = (number(&digits), line.get(end + 1..)) else {
        return Line::Strange;
    };
    let modified_ms = milliseconds(date.to_datetime(time));
    file(name, Sighting { bytes: Some(bytes), modified_ms, coarse: true })
}

/// `11-23-26`, `11/23/2026`, `23.11.2026` (with points the day comes first), `2026-11-23`.
fn dos_date(word: &[u8]) -> Option<Date> {
    if let Some(date) = iso_date(word) {
        return Some(date);
    }
    let delimiter = *word.iter().find(|byte| matches!(byte, b'-' | b'/' | b'.'))?;
    let fields: Option<Vec<u64>> = word.split(|byte| *byte == delimiter).map(number).collect();
    let [first, second, year] = fields?[..] else {
        return None;
    };
    let year = match year {
        0..70 => 2000 + year,
        70..100 => 1900 + year,
        _ => year,
    };
    let (month, day) = if delimiter == b'.' { (second, first) } else { (first, second) };
    date(year, month, day)
}

fn iso_date(word: &[u8]) -> Option<Date> {
    let [y1, y2, y3, y4, b'-' | b'/', m1, m2, b'-' | b'/', d1, d2] = *word else {
        return None;
    };
    date(number(&[y1, y2, y3, y4])?, number(&[m1, m2])?, number(&[d1, d2])?)
}

/// `13:45`, `13:45:10`, `13:45:10.123456789`, `01:45PM`.
fn clock_time(word: &[u8]) -> Option<Time> {
    let upper = word.to_ascii_uppercase();
    let (clock, half) = match upper.strip_suffix(b"M") {
        Some([clock @ .., b'A']) => (clock, Some(0)),
        Some([clock @ .., b'P']) => (clock, Some(12)),
        Some(_) => return None,
        None => (&upper[..], None),
    };
    let mut fields = clock.split(|byte| *byte == b':');
    let (hour, minute) = (number(fields.next()?)?, number(fields.next()?)?);
    let second = match fields.next() {
        Some(seconds) => number(seconds.split(|byte| *byte == b'.').next()?)?,
        None => 0,
    };
    let hour = match half {
        None => hour,
        Some(half) if (1..=12).contains(&hour) => hour % 12 + half,
        Some(_) => return None,
    };
    fields.next().is_none().then(|| time(hour, minute, second))?
}

/// Month names as servers write them: English, German, French, Spanish, Italian, Dutch,
/// Portuguese, in UTF-8 or Latin-1.
fn month(word: &[u8]) -> Option<u64> {
    const NAMES: [&[&str]; 12] = [
        &["jan", "janv", "ene", "gen"],
        &["feb", "fév", "févr", "fev", "fevr"],
        &["mar", "mär", "mrz", "mars", "mrt", "maer"],
        &["apr", "avr", "abr"],
        &["may", "mai", "mei", "mag"],
        &["jun", "juin", "giu"],
        &["jul", "juil", "lug"],
        &["aug", "aoû", "août", "aout", "ago"],
        &["sep", "sept", "set"],
        &["oct", "okt", "ott", "out"],
        &["nov"],
        &["dec", "dez", "déc", "dic"],
    ];
    if word.is_empty() || word.len() > 8 {
        return None;
    }
    let name = crate::mask::readable(word.strip_suffix(b".").unwrap_or(word)).to_lowercase();
    let at = NAMES.iter().position(|names| names.contains(&name.as_str()))?;
    u64::try_from(at + 1).ok()
}

fn number(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

fn date(year: u64, month: u64, day: u64) -> Option<Date> {
    let (year, month, day) = (year.try_into().ok()?, month.try_into().ok()?, day.try_into().ok()?);
    Date::new(year, month, day).ok()
}

fn time(hour: u64, minute: u64, second: u64) -> Option<Time> {
    let (hour, minute) = (hour.try_into().ok()?, minute.try_into().ok()?);
    Time::new(hour, minute, second.try_into().ok()?, 0).ok()
}

fn milliseconds(at: DateTime) -> Option<i64> {
    Some(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
