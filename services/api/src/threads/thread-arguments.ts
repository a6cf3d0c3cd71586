/**
 * Flags of the threads of piscina: none of this process, such as the port of a debugger. Piscina requires the module of a task before it
 * imports it, and Node 20 aborts the whole process if a thread ends while it requires an ES module (v8::Module::IsGraphAsync).
 */
export const THREAD_ARGUMENTS = ['--no-experimental-require-module'];
