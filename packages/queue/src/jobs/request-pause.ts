import { jobScript } from './job-script.js';

export const requestPauseScript = jobScript(import.meta.url, './request-pause.lua');
