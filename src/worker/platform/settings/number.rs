//! The settings that are numbers, with their defaults and limits.

use hedgerow_core::api::ConfigProblem;

/// A variable whose value is a whole number.
#[derive(Clone, Copy, Debug)]
pub struct NumberSetting {
    /// Name of the variable.
    pub name: &'static str,
    /// The number that is used if the variable is not set, or not a whole number.
    default: u64,
    /// The smallest number. It is used instead of smaller ones.
    min: u64,
    /// The largest number. It is used instead of larger ones.
    max: u64,
}

/// The pause between two reads of KV by an isolate, in seconds.
pub const REFRESH_SECONDS: NumberSetting =
    NumberSetting { name: "REFRESH_SECONDS", default: 10, min: 0, max: 3_600 };

/// The time for which an isolate counts before it reports to the ledger, in seconds. The maximum is
/// 20, because the platform ends an invocation 30 seconds after its response.
pub const REPORT_SECONDS: NumberSetting =
    NumberSetting { name: "REPORT_SECONDS", default: 5, min: 0, max: 20 };

/// The number of ledger objects.
pub const LEDGER_SHARDS: NumberSetting =
    NumberSetting { name: "LEDGER_SHARDS", default: 1, min: 1, max: 16 };

/// The number of KV writes per UTC day that indicators may use. The default is 800: Cloudflare's
/// free plan allows 1,000 writes per day, and releases need some of them.
pub const KV_WRITES_PER_DAY: NumberSetting =
    NumberSetting { name: "KV_WRITES_PER_DAY", default: 800, min: 0, max: u64::MAX };

/// The lowest serial of a release that isolates adopt.
pub const MIN_SERIAL: NumberSetting =
    NumberSetting { name: "MIN_SERIAL", default: 0, min: 0, max: u64::MAX };

/// All settings that are numbers.
pub const ALL: [NumberSetting; 5] =
    [REFRESH_SECONDS, REPORT_SECONDS, LEDGER_SHARDS, KV_WRITES_PER_DAY, MIN_SERIAL];

impl NumberSetting {
    /// Returns the number that is used if the variable has the value `value`; `None` means that it
    /// is not set.
    pub fn effective(&self, value: Option<f64>) -> u64 {
        let number = value.and_then(whole_number);
        number.map_or(self.default, |number| number.clamp(self.min, self.max))
    }

    /// Returns the problem of a variable whose value is not the number that is used. The message
    /// does not quote the value, because health is public.
    pub fn problem(&self, value: Option<f64>) -> Option<ConfigProblem> {
        let used = self.effective(value);
        if value.is_none_or(|value| whole_number(value) == Some(used)) {
            return None;
        }
        let Self { name, min, max, .. } = self;
        let range = match *max {
            u64::MAX => format!("of at least {min}"),
            max => format!("from {min} to {max}"),
        };
        Some(ConfigProblem::new(
            format!("{name} is invalid: expected a whole number {range}; {used} is used instead"),
            format!("correct {name} in wrangler.toml, or remove it, and deploy again"),
        ))
    }
}

/// Parses the text of a variable. Returns `None` if the text is blank, and NaN if it is not a
/// number.
pub fn parse(text: &str) -> Option<f64> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.parse().unwrap_or(f64::NAN))
}

/// Returns `number` as an integer; `None` if it is negative or not a whole number.
fn whole_number(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && number >= 0.0).then_some(number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_used_is_a_problem() {
        // setting, text, the number that is used, whether there is a problem
        let rows = [
            (MIN_SERIAL, "", 0, false),
            (MIN_SERIAL, " 12 ", 12, false),
            (MIN_SERIAL, "ten", 0, true),
            (MIN_SERIAL, "-1", 0, true),
            (MIN_SERIAL, "1.5", 0, true),
            (KV_WRITES_PER_DAY, "inf", 800, true),
            (KV_WRITES_PER_DAY, "NaN", 800, true),
            (KV_WRITES_PER_DAY, "0", 0, false),
            (REFRESH_SECONDS, "0", 0, false),
            (REFRESH_SECONDS, "10s", 10, true),
            (REFRESH_SECONDS, "3601", 3_600, true),
            (REPORT_SECONDS, "20", 20, false),
            (LEDGER_SHARDS, "0", 1, true),
            (LEDGER_SHARDS, "17", 16, true),
        ];
        for (setting, text, used, is_problem) in rows {
            let value = parse(text);
            assert_eq!(setting.effective(value), used, "{} {text}", setting.name);
            assert_eq!(setting.problem(value).is_some(), is_problem, "{} {text}", setting.name);
        }
    }

    #[test]
    fn the_problem_names_the_range_and_a_remedy_but_not_the_value() {
        let problem = MIN_SERIAL.problem(parse("ten")).unwrap();
        let message = "MIN_SERIAL is invalid: expected a whole number of at least 0; 0 is used \
            instead";
        assert_eq!(problem.message, message);
        assert!(problem.remedy.contains("wrangler.toml"));
        let problem = LEDGER_SHARDS.problem(parse("17")).unwrap();
        assert!(problem.message.contains("from 1 to 16; 16 is used"), "{}", problem.message);
    }
}
