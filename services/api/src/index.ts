export { buildApp } from './app.js';
export { type AppDependencies, createAppParts } from './app-parts.js';
export { PULLER_SETTINGS } from './puller-settings.js';
export { API_SETTINGS } from './settings.js';
