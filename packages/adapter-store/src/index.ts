export { adapterNotFound, brokenAdapter, readManifest, readManifestOfFolder, writeManifest } from './manifest.js';
