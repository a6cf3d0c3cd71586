import { jobScript } from './job-script.js';

export const resumeJobScript = jobScript(import.meta.url, './resume-job.lua');
