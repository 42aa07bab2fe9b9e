//! How old something is, as `kubectl` writes it.

use k8s_openapi::jiff::Timestamp;

/// `34s`, `6m12s`, `3h5m`, `2d4h`, `90d`: two units while they say something. What is of the future is `0s`: clocks differ.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = (now.as_second() - since.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |large: i64, unit: char, small: i64, of: char| match small {
        0 => format!("{large}{unit}"),
        small => format!("{large}{unit}{small}{of}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, 'd', hours % 24, 'h'),
        () => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_as_kubectl_writes_them() {
        let at = |seconds: i64| age(Timestamp::UNIX_EPOCH, Timestamp::from_second(seconds).unwrap());
        let shown = [0, 119, 120, 372, 600, 7200, 11_100, 90_000, 187_200, 864_000].map(at);
        assert_eq!(
            shown,
            ["0s", "119s", "2m", "6m12s", "10m", "120m", "3h5m", "25h", "2d4h", "10d"]
        );
        assert_eq!(age(Timestamp::from_second(9).unwrap(), Timestamp::UNIX_EPOCH), "0s");
    }
}
