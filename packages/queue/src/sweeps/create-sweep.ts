import { jobScript } from '../jobs/job-script.js';

export const createSweepScript = jobScript(import.meta.url, './create-sweep.lua');
