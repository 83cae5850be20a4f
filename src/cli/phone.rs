//! `contact-sync phone`: reads numbers as the service does, for checking a customer's export before it is synced.
//!
//! A filter of lines: `region<TAB>raw` in, `key<TAB>extension` out, always one line for one line. It streams, and holds
//! one line at a time. A wrong line is reported by its number and never by its content.

use std::io::{BufRead, Write};

use anyhow::Context as _;

use crate::domain::phone::{self, RAW_LENGTH_MAX, Reading, Region};

/// Bytes of a line that are kept: a region, a tab, and one byte more than a number may have, so that a longer number is
/// still seen as too long.
const LINE_LENGTH_MAX: usize = 16 + RAW_LENGTH_MAX;

/// Reads lines `region<TAB>raw` from standard input and prints `key<TAB>extension` for each.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "A region is an ISO 3166-1 alpha-2 code; ZZ or nothing means that it is not known. \
    The key is the number in E.164 form, keys of several numbers are joined by a comma, and - stands for none.")]
pub(super) struct PhoneArgs {
    /// Region of the lines that name none
    #[arg(long, value_name = "REGION")]
    pub default_region: Option<Region>,
}

/// Reads each line of `input` and writes its reading to `output`, until the input ends. Regions that nobody knows are
/// named by line on standard error.
pub(super) fn run(args: &PhoneArgs, mut input: impl BufRead, mut output: impl Write) -> anyhow::Result<()> {
    let mut line = Vec::with_capacity(LINE_LENGTH_MAX);
    let mut number: u64 = 0;
    while read_line(&mut input, &mut line).context("reading standard input")? {
        number += 1;
        match read_fields(&line, args.default_region) {
            Ok(reading) => write_reading(&mut output, &reading),
            Err(message) => {
                eprintln!("line {number}: {message}");
                write_reading(&mut output, &Reading::Unparseable)
            }
        }
        .context("writing standard output")?;
    }
    output.flush().context("writing standard output")
}

fn read_fields(line: &[u8], default_region: Option<Region>) -> Result<Reading, &'static str> {
    let line = String::from_utf8_lossy(line);
    let (region, raw) = line.split_once('\t').ok_or("no tab between region and number")?;
    let region = match region.trim() {
        "" | "ZZ" | "zz" => default_region,
        code => Some(Region::parse(code).map_err(
            |_unknown| "region is unknown, an ISO 3166-1 alpha-2 code such as US, or ZZ for none, would be right",
        )?),
    };
    Ok(phone::read(raw, region))
}

fn write_reading(output: &mut impl Write, reading: &Reading) -> std::io::Result<()> {
    let Some(first) = reading.first() else {
        return output.write_all(b"-\t-\n");
    };
    write!(output, "+{}", first.key.as_i64())?;
    for other in reading.numbers().skip(1) {
        write!(output, ",+{}", other.key.as_i64())?;
    }
    output.write_all(b"\t")?;
    let has_extension = reading.numbers().any(|number| number.extension.is_some());
    for (at, read) in reading.numbers().enumerate() {
        if at > 0 && !has_extension {
            break;
        }
        let extension = read.extension.as_deref().unwrap_or("-");
        write!(output, "{}{extension}", if at > 0 { "," } else { "" })?;
    }
    output.write_all(b"\n")
}

/// Reads the next line without its end into `line`, as far as it is kept; `false` at the end of the input.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let mut has_line = false;
    loop {
        let buffer = match input.fill_buf() {
            Ok([]) => break,
            Ok(buffer) => buffer,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        has_line = true;
        let end = buffer.iter().position(|&byte| byte == b'\n');
        let length = end.unwrap_or(buffer.len());
        let kept = length.min(LINE_LENGTH_MAX - line.len());
        line.extend_from_slice(&buffer[..kept]);
        input.consume(length + usize::from(end.is_some()));
        if end.is_some() {
            break;
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(has_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(input: &[u8]) -> String {
        let mut output = Vec::new();
        run(&PhoneArgs { default_region: None }, input, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    #[test]
    fn each_line_gives_key_and_extension() {
        let input =
            "US\t(310)-867-5309\nFR\t06 12 34 56 75 poste 703\nUS\t(201) 555-0124 & +1 201-723-6935\nGB\tAnonymous\n";

        assert_eq!(
            filter(input.as_bytes()),
            "+13108675309\t-\n+33612345675\t703\n+12015550124,+12017236935\t-\n-\t-\n"
        );
    }

    #[test]
    fn empty_region_and_zz_know_only_international_numbers() {
        assert_eq!(
            filter(b"\t+13108675309\nZZ\t+13108675309\n\t310 867 5309\n"),
            "+13108675309\t-\n+13108675309\t-\n-\t-\n"
        );
    }

    #[test]
    fn default_region_reads_lines_without_one() {
        let mut output = Vec::new();
        let args = PhoneArgs { default_region: Some(Region::parse("US").unwrap()) };
        run(&args, &b"\t310 867 5309\nGB\t020 7946 0018\n"[..], &mut output).unwrap();

        assert_eq!(String::from_utf8(output).unwrap(), "+13108675309\t-\n+442079460018\t-\n");
    }

    #[test]
    fn every_line_is_answered_whatever_it_holds() {
        let long = format!("US\t310 867 5309{}\n", " ".repeat(100_000));
        let input = [
            b"\n" as &[u8],
            b"QQ\t1\n",
            b"US\t\xff310 867 5309\xff\n",
            b"US\t\t310 867 5309\t\r\n",
            long.as_bytes(),
            b"US\t310 867 5309",
        ];

        let lines = filter(&input.concat());

        assert_eq!(lines, "-\t-\n-\t-\n+13108675309\t-\n+13108675309\t-\n-\t-\n+13108675309\t-\n");
    }
}
