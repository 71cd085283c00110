//! What a person changes in all jobs of a run.

use pipelines::plan::{Image, Plan};

/// Changes to all jobs, also to those of downstream pipelines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The image, whatever the job asks for.
    pub image: Option<String>,
    /// Start no services.
    pub no_services: bool,
}

impl Overrides {
    /// Changes the jobs of a plan.
    pub fn apply(&self, plan: &mut Plan) {
        for job in &mut plan.jobs {
            if let Some(name) = &self.image {
                job.work.image = Some(Image { name: name.clone(), ..Image::default() });
            }
            if self.no_services {
                job.work.services.clear();
            }
        }
    }
}
