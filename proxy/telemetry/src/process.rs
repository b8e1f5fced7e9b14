//! What the kernel says about this process, read from /proc at scrape time. What cannot be read is left out: a
//! missing series is "unknown", a zero would be a lie.

use crate::catalogue::{self, MetricInfo, MetricKind};
use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Reads /proc/self on each scrape.
#[derive(Debug)]
pub struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let Ok(process) = Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            write(&mut encoder, &catalogue::PROCESS_CPU, (stat.utime + stat.stime) as f64 / ticks)?;
            write(&mut encoder, &catalogue::PROCESS_RESIDENT, stat.rss as f64 * procfs::page_size() as f64)?;
            write(&mut encoder, &catalogue::PROCESS_VIRTUAL, stat.vsize as f64)?;
            write(&mut encoder, &catalogue::PROCESS_THREADS, stat.num_threads as f64)?;
            if let Ok(boot) = procfs::boot_time_secs() {
                write(&mut encoder, &catalogue::PROCESS_START, boot as f64 + stat.starttime as f64 / ticks)?;
            }
        }
        if let Ok(open) = process.fd_count() {
            write(&mut encoder, &catalogue::PROCESS_OPEN_FDS, open as f64)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(max) = limits.max_open_files.soft_limit
        {
            write(&mut encoder, &catalogue::PROCESS_MAX_FDS, max as f64)?;
        }
        Ok(())
    }
}

fn write(encoder: &mut DescriptorEncoder, info: &MetricInfo, value: f64) -> std::fmt::Result {
    let name = info.name.strip_suffix("_total").unwrap_or(info.name);
    match info.kind {
        MetricKind::Counter => {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, &full_stop(info), None, counter.metric_type())?)
        }
        MetricKind::Gauge | MetricKind::Histogram => {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, &full_stop(info), None, gauge.metric_type())?)
        }
    }
}

// The registry adds a full stop to the help of what it registers; a collector's help is taken as it is.
fn full_stop(info: &MetricInfo) -> String {
    format!("{}.", info.help)
}
