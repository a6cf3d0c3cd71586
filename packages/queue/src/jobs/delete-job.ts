import { jobScript } from './job-script.js';

export const deleteJobScript = jobScript(import.meta.url, './delete-job.lua');
