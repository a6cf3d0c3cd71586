import { jobScript } from '../jobs/job-script.js';

export const continueHeldJobScript = jobScript(import.meta.url, './continue-held-job.lua');
