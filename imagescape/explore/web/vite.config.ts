import { defineConfig } from 'vite'

// Addresses are relative, as a page of files may lie anywhere. Nothing is put into the page itself, whose security
// policy allows neither scripts nor styles nor data in it.
export default defineConfig({
  base: './',
  build: {
    outDir: 'dist',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 800,
    target: 'es2022',
    license: { fileName: 'licenses.txt' }, // of what is bundled
  },
})
