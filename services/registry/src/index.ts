export { REGISTRY_SETTINGS } from './config.js';
