export { adapterNotFound, brokenAdapter, readManifest, readManifestOfFolder, writeManifest } from './manifest.js';
export { adapterCard, type CardContent, derivedCard } from './model-card.js';
