export { REGISTRY_SETTINGS, type RegistryConfig } from './config.js';
