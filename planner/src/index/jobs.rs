//! Jobs, alone and in a `JobSet`. A `TrainJob` makes a `JobSet` of its own name, whose replicated job `node` trains
//! (`kubeflow/trainer` v2, `pkg/constants/constants.go`).

use super::{
    IndexError,
    labels::{JOB_COMPLETION_INDEX, JOB_INDEX, JOBSET_NAME, Key, REPLICATED_JOB, REPLICATED_JOB_REPLICAS},
    place::{Number, Place},
    pod::{Owner, Pod, number},
};

/// What the API server makes random at the end of a generated name (`k8s.io/apiserver/pkg/storage/names`).
const RANDOM: usize = 5;
/// How long a name may be before that.
const GENERATED: usize = 63 - RANDOM;

/// The place of a Job's pod, and the keys by which it is numbered.
pub(super) fn place(pod: &Pod<'_>, owner: &Owner<'_>) -> Result<(Place, &'static [Key]), IndexError> {
    let completion = completion(pod, owner)?;
    if JOBSET_NAME.is_on(pod.metadata) || JOB_INDEX.is_on(pod.metadata) {
        let place = in_jobset(pod, owner, completion)?;
        return Ok((place, &[JOB_COMPLETION_INDEX, JOB_INDEX]));
    }
    let place = Place {
        workload: owner.text(),
        role: owner.name.to_owned(),
        has_parts: false,
        number: completion.map_or(Number::None, Number::Flat),
    };
    Ok((place, &[JOB_COMPLETION_INDEX]))
}

/// The completion index, as label, annotation and name say it.
fn completion(pod: &Pod<'_>, owner: &Owner<'_>) -> Result<Option<u32>, IndexError> {
    let named = named(pod.name(), owner.name);
    let Some(value) = pod.value(JOB_COMPLETION_INDEX)? else {
        // Of a Job that is not Indexed no pod has such a name, unless it was made by hand.
        return match named {
            Some(_) => pod.needed(JOB_COMPLETION_INDEX).map(|_| None),
            None => Ok(None),
        };
    };
    if let Some(named) = named {
        return pod.agree(JOB_COMPLETION_INDEX, named).map(Some);
    }
    pod.needed_number(JOB_COMPLETION_INDEX)?;
    Err(pod.contradicts(JOB_COMPLETION_INDEX, value, "not numbered by its name"))
}

/// The number in the name of an Indexed Job's pod: `<job>-<number>-<random>`, where a Job's long name is cut so that it fits
/// (`podGenerateNameWithIndex` in `pkg/controller/job/indexed_job_utils.go`).
fn named(pod: &str, job: &str) -> Option<u32> {
    let (base, random) = pod.rsplit_once('-')?;
    let (prefix, digits) = base.rsplit_once('-')?;
    let is_cut = job.starts_with(prefix) && base.len() + 1 == GENERATED;
    let is_of_job = random.len() == RANDOM && (prefix == job || is_cut);
    is_of_job.then(|| number(digits)).flatten()
}

/// The name of a `JobSet`'s Job is `<jobset>-<replicated job>-<job index>` (`GenJobName` in `pkg/util/placement/placement.go`).
fn in_jobset(pod: &Pod<'_>, owner: &Owner<'_>, completion: Option<u32>) -> Result<Place, IndexError> {
    let jobset = pod.needed(JOBSET_NAME)?;
    let role = pod.needed(REPLICATED_JOB)?;
    let value = pod.needed(JOB_INDEX)?;
    let group = pod.needed_number(JOB_INDEX)?;
    if owner.name != format!("{jobset}-{role}-{group}") {
        let other = format!("not of Job {group} of {role} in JobSet {jobset} by its owner's name");
        return Err(pod.contradicts(JOB_INDEX, value, &other));
    }
    let number = match completion {
        Some(number) => Number::Grouped {
            group,
            of: Some(pod.needed_number(REPLICATED_JOB_REPLICAS)?),
            number,
        },
        None => Number::None,
    };
    Ok(Place {
        workload: format!("JobSet {jobset}"),
        role: role.to_owned(),
        has_parts: true,
        number,
    })
}
