import { jobScript } from './job-script.js';

export const createJobScript = jobScript(import.meta.url, './create-job.lua');
