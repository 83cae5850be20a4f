//! `contact-sync phone`: reads numbers as the service does, for checking a customer's export before
//! it is synced.
//!
//! A filter of lines: `region<TAB>raw` in, or with a default region `raw` alone;
//! `key<TAB>extension` out, always one line for one line; with `--explain` a third column says why,
//! and a count of it all ends the run. It streams, and holds one line at a time. A wrong line is
//! reported by its number and never by its content.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, Write};

use anyhow::Context as _;
use phone_key::{RAW_LENGTH_MAX, ReadRefusal, Reading, ReadingExplanation, ReadingStep, Region};

/// Bytes of a line that are kept: a region, a tab, and one byte more than a number may have, so
/// that a longer number is still seen as too long.
const LINE_LENGTH_MAX: usize = 16 + RAW_LENGTH_MAX;

/// Reads lines `region<TAB>raw` from standard input and prints `key<TAB>extension` for each. With
/// --default-region a line may be a number alone.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "A region is an ISO 3166-1 alpha-2 code; ZZ or nothing means that it is not known. \
    The key is the number in E.164 form, keys of several numbers are joined by a comma, and - stands for none.\n\n\
    To check an export before it is synced: contact-sync phone --explain < numbers.tsv > read.tsv")]
pub(super) struct PhoneArgs {
    /// Region of the lines that name none; they may be without a tab, too
    #[arg(long, value_name = "REGION")]
    pub default_region: Option<Region>,
    /// Say in a third column why each line reads as it does, and at the end on standard error how
    /// many lines have a key and why the others have none
    #[arg(long)]
    pub explain: bool,
}

/// Reads each line of `input` and writes its reading to `output`, until the input ends. Regions
/// that nobody knows are named by line on standard error, and with `--explain` the summary follows
/// there.
pub(super) fn run(args: &PhoneArgs, input: impl BufRead, output: impl Write) -> anyhow::Result<()> {
    let summary = filter(args, input, output)?;
    if args.explain {
        eprint!("{summary}");
    }
    Ok(())
}

fn filter(args: &PhoneArgs, mut input: impl BufRead, mut output: impl Write) -> anyhow::Result<Summary> {
    let mut line = Vec::with_capacity(LINE_LENGTH_MAX);
    let mut summary = Summary::default();
    while read_line(&mut input, &mut line).context("reading standard input")? {
        summary.lines += 1;
        match read_fields(&String::from_utf8_lossy(&line), args.default_region) {
            Ok((raw, region)) if args.explain => {
                let explanation = phone_key::explain(raw, region);
                summary.add(&explanation);
                write_reading(&mut output, &explanation.reading)
                    .and_then(|()| write_steps(&mut output, &explanation.steps))
            }
            Ok((raw, region)) => write_reading(&mut output, &phone_key::read(raw, region)),
            Err(message) => {
                eprintln!("line {}: {message}", summary.lines);
                summary.not_read += 1;
                let written = write_reading(&mut output, &Reading::Unparseable);
                if args.explain { written.and_then(|()| write!(output, "\t{message}")) } else { written }
            }
        }
        .and_then(|()| output.write_all(b"\n"))
        .context("writing standard output")?;
    }
    output.flush().context("writing standard output")?;
    Ok(summary)
}

fn read_fields(line: &str, default_region: Option<Region>) -> Result<(&str, Option<Region>), &'static str> {
    let (region, raw) = match line.split_once('\t') {
        Some(fields) => fields,
        None if default_region.is_some() => ("", line),
        None => return Err("no tab between region and number; with --default-region a line may be a number alone"),
    };
    let region = match region.trim() {
        "" | "ZZ" | "zz" => default_region,
        code => Some(Region::parse(code).map_err(
            |_unknown| "region is unknown, an ISO 3166-1 alpha-2 code such as US, or ZZ for none, would be right",
        )?),
    };
    Ok((raw, region))
}

fn write_reading(output: &mut impl Write, reading: &Reading) -> std::io::Result<()> {
    let Some(first) = reading.first() else {
        return output.write_all(b"-\t-");
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
    Ok(())
}

fn write_steps(output: &mut impl Write, steps: &[ReadingStep]) -> std::io::Result<()> {
    for (at, step) in steps.iter().enumerate() {
        write!(output, "{}{step}", if at > 0 { "; " } else { "\t" })?;
    }
    Ok(())
}

/// Counts of lines.
#[derive(Debug, Default)]
struct Summary {
    lines: u64,
    with_key: u64,
    several_numbers: u64,
    with_extension: u64,
    not_assigned: u64,
    withheld: u64,
    without_key: BTreeMap<ReadRefusal, u64>,
    /// Lines without a tab or with an unknown region.
    not_read: u64,
}

impl Summary {
    fn add(&mut self, explanation: &ReadingExplanation) {
        let numbers = explanation.reading.numbers();
        self.with_key += u64::from(explanation.reading.first().is_some());
        self.several_numbers += u64::from(numbers.count() > 1);
        self.with_extension += u64::from(explanation.reading.numbers().any(|number| number.extension.is_some()));
        self.not_assigned += u64::from(explanation.steps.contains(&ReadingStep::NotAssigned));
        self.withheld += u64::from(explanation.reading == Reading::Withheld);
        for step in &explanation.steps {
            if let ReadingStep::NoKey(refusal, _) = step {
                *self.without_key.entry(*refusal).or_default() += 1;
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>9} lines", self.lines)?;
        writeln!(f, "{:>9} with a key", self.with_key)?;
        writeln!(f, "{:>9}   of these with several numbers", self.several_numbers)?;
        writeln!(f, "{:>9}   of these with an extension", self.with_extension)?;
        writeln!(f, "{:>9}   of these possible but not assigned", self.not_assigned)?;
        writeln!(f, "{:>9} withheld", self.withheld)?;
        writeln!(f, "{:>9} without a key", self.without_key.values().sum::<u64>() + self.not_read)?;
        for (refusal, count) in &self.without_key {
            writeln!(f, "{count:>9}   {refusal}")?;
        }
        if self.not_read > 0 {
            writeln!(f, "{:>9}   no tab in the line, or a region that is unknown", self.not_read)?;
        }
        Ok(())
    }
}

/// Reads the next line without its end into `line`, as far as it is kept; `false` at the end of the
/// input.
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

    fn read_lines(input: &[u8]) -> String {
        let mut output = Vec::new();
        run(&PhoneArgs { default_region: None, explain: false }, input, &mut output).unwrap();
        String::from_utf8(output).unwrap()
    }

    fn explain_lines(input: &str) -> (String, String) {
        let mut output = Vec::new();
        let args = PhoneArgs { default_region: None, explain: true };
        let summary = filter(&args, input.as_bytes(), &mut output).unwrap();
        (String::from_utf8(output).unwrap(), summary.to_string())
    }

    #[test]
    fn each_line_gives_key_and_extension() {
        let input =
            "US\t(310)-867-5309\nFR\t06 12 34 56 75 poste 703\nUS\t(201) 555-0124 & +1 201-723-6935\nGB\tAnonymous\n";

        assert_eq!(
            read_lines(input.as_bytes()),
            "+13108675309\t-\n+33612345675\t703\n+12015550124,+12017236935\t-\n-\t-\n"
        );
    }

    #[test]
    fn empty_region_and_zz_know_only_international_numbers() {
        assert_eq!(
            read_lines(b"\t+13108675309\nZZ\t+13108675309\n\t310 867 5309\n"),
            "+13108675309\t-\n+13108675309\t-\n-\t-\n"
        );
    }

    #[test]
    fn default_region_reads_lines_without_one() {
        let mut output = Vec::new();
        let args = PhoneArgs { default_region: Some(Region::parse("US").unwrap()), explain: false };
        run(&args, &b"\t310 867 5309\nGB\t020 7946 0018\n"[..], &mut output).unwrap();

        assert_eq!(String::from_utf8(output).unwrap(), "+13108675309\t-\n+442079460018\t-\n");
    }

    /// With a default region, a line is a number alone or has a region of its own.
    #[test]
    fn default_region_makes_lines_region_optional() {
        let mut output = Vec::new();
        let args = PhoneArgs { default_region: Some(Region::parse("US").unwrap()), explain: false };
        let input = b"310 867 5309\r\nGB\t020 7946 0018\n\n(310) 867-5310 x12\nQQ\t1\n+442079460018";
        run(&args, &input[..], &mut output).unwrap();

        assert_eq!(
            String::from_utf8(output).unwrap(),
            "+13108675309\t-\n+442079460018\t-\n-\t-\n+13108675310\t12\n-\t-\n+442079460018\t-\n"
        );
        assert!(explain_lines("310 867 5309\n").0.contains("--default-region"));
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

        let lines = read_lines(&input.concat());

        assert_eq!(lines, "-\t-\n-\t-\n+13108675309\t-\n+13108675309\t-\n-\t-\n+13108675309\t-\n");
    }

    /// Explained lines have their reasons in a third column.
    #[test]
    fn explained_lines_have_reasons_in_third_column() {
        let input = "US\t310 555 1234 ext 12\nUS\t867-5309\nGB\tAnonymous\nQQ\t1\nGB\t\n";

        assert_eq!(
            explain_lines(input).0,
            "+13105551234\t12\tread as a national number of US; extension 12 kept aside\n\
             -\t-\ttoo short for US, local only: could be anybody's\n\
             -\t-\ta withheld caller's word\n\
             -\t-\tregion is unknown, an ISO 3166-1 alpha-2 code such as US, or ZZ for none, would be right\n\
             -\t-\tno digits\n"
        );
    }

    /// The summary counts each line by what became of it.
    #[test]
    fn summary_counts_lines_by_outcome() {
        let input = "US\t310 555 1234 ext 12\nUS\t867-5309\nUS\t555-0100\nGB\tAnonymous\nno tab\n\
                     GB\t020 7946 0018 / 07700 900123\nGB\t+13108675309\n";

        let (lines, summary) = explain_lines(input);

        assert_eq!(lines.lines().count(), 7);
        assert_eq!(
            summary.lines().map(str::trim_start).collect::<Vec<_>>(),
            [
                "7 lines",
                "3 with a key",
                "1   of these with several numbers",
                "1   of these with an extension",
                "1   of these possible but not assigned",
                "1 withheld",
                "3 without a key",
                "2   local only",
                "1   no tab in the line, or a region that is unknown",
            ]
        );
    }
}
