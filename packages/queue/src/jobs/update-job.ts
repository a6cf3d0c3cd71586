import { jobScript } from './job-script.js';

export const updateJobScript = jobScript(import.meta.url, './update-job.lua');
