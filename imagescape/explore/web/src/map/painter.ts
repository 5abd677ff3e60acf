/**
 * Draws points and density with WebGL 2.
 *
 * Points lie in the order of a `PointIndex`, so that those in view are a few stretches of the buffers. Where a part of
 * the map holds more points than can be drawn at once in software, every k-th is: a stride of the buffers.
 */

import type { Size, View } from './camera'
import type { Box } from './geometry'

export const MAX_STEP = 31 // 8 bytes a point, and WebGL reads strides of up to 255

/** A picture that lies on the map under `box`. */
export interface Backdrop {
  pixels: Uint8ClampedArray
  width: number
  height: number
  box: Box
}

const POINTS = `#version 300 es
in vec2 a_from;
in vec2 a_to;
in vec4 a_color;
uniform vec4 u_from;  // offset and scale into the clip space, of the map that was
uniform vec4 u_to;    // and of the one that is
uniform float u_share;
uniform float u_size;
uniform float u_alpha;
out vec4 v_color;
void main() {
  vec2 from = (a_from - u_from.xy) * u_from.zw;
  vec2 to = (a_to - u_to.xy) * u_to.zw;
  // A point that lies on one of the maps only appears or goes where it is.
  float lost = isnan(from.x) ? 1.0 : 0.0;
  float unborn = isnan(to.x) ? 1.0 : 0.0;
  vec2 place = lost > 0.0 ? to : unborn > 0.0 ? from : mix(from, to, u_share);
  float seen = lost > 0.0 ? u_share : unborn > 0.0 ? 1.0 - u_share : 1.0;
  v_color = vec4(a_color.rgb, a_color.a * u_alpha * seen);
  gl_Position = v_color.a > 0.0 ? vec4(place, 0.0, 1.0) : vec4(2.0, 2.0, 2.0, 1.0);
  gl_PointSize = u_size;
}`

const DOT = `#version 300 es
precision mediump float;
in vec4 v_color;
uniform float u_round;
out vec4 color;
void main() {
  float edge = 1.0;
  if (u_round > 0.0) {
    float distance = length(gl_PointCoord - 0.5) * u_round;
    edge = clamp(u_round * 0.5 - distance, 0.0, 1.0);
    if (edge == 0.0) discard;
  }
  float alpha = v_color.a * edge;
  color = vec4(v_color.rgb * alpha, alpha);
}`

const SHEET = `#version 300 es
in vec2 a_corner;
uniform vec4 u_box;   // left, bottom, right, top on the map
uniform vec4 u_to;
out vec2 v_place;
void main() {
  v_place = a_corner;
  gl_Position = vec4((mix(u_box.xy, u_box.zw, a_corner) - u_to.xy) * u_to.zw, 0.0, 1.0);
}`

const PICTURE = `#version 300 es
precision mediump float;
in vec2 v_place;
uniform sampler2D u_picture;
uniform float u_alpha;
out vec4 color;
void main() { color = texture(u_picture, v_place) * u_alpha; }`

export class Painter {
  private readonly gl: WebGL2RenderingContext
  private readonly points: WebGLProgram
  private readonly sheet: WebGLProgram
  private readonly uniforms = new Map<string, WebGLUniformLocation | null>()
  private readonly corners: WebGLBuffer
  private readonly from: WebGLBuffer
  private readonly to: WebGLBuffer
  private readonly colors: WebGLBuffer
  private readonly textures = new Map<string, { texture: WebGLTexture; box: Box }>()
  private lost = false

  /** Throws when the browser has no WebGL 2. `onRestore` is called when a lost context is back, with nothing in it. */
  constructor(
    readonly canvas: HTMLCanvasElement,
    onRestore: () => void,
  ) {
    const gl = canvas.getContext('webgl2', { antialias: false, depth: false, stencil: false, premultipliedAlpha: true })
    if (!gl) throw new Error('The map needs WebGL 2, which this browser does not have or has switched off.')
    this.gl = gl
    this.points = program(gl, POINTS, DOT)
    this.sheet = program(gl, SHEET, PICTURE)
    this.corners = gl.createBuffer()
    this.from = gl.createBuffer()
    this.to = gl.createBuffer()
    this.colors = gl.createBuffer()
    gl.bindBuffer(gl.ARRAY_BUFFER, this.corners)
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW)
    gl.enable(gl.BLEND)
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA)
    canvas.addEventListener('webglcontextlost', (event) => {
      event.preventDefault()
      this.lost = true
    })
    canvas.addEventListener('webglcontextrestored', onRestore)
  }

  /** Whether the processor draws, as there is no graphics card or the browser does not use it. */
  get isSoftware(): boolean {
    const known = this.gl.getExtension('WEBGL_debug_renderer_info')
    const name = known ? String(this.gl.getParameter(known.UNMASKED_RENDERER_WEBGL)) : ''
    return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name)
  }

  /** Coordinates of all points, x and y by turns, in the order of the index. */
  setPlaces(places: Float32Array, previous: Float32Array = places): void {
    this.fill(this.to, places)
    this.fill(this.from, previous)
  }

  /** Colours of all points, red, green, blue and alpha of each, in the order of the index; alpha 0 hides. */
  setColors(colors: Uint8Array): void {
    this.fill(this.colors, colors)
  }

  /** Keep a picture to be drawn under the name `name`. */
  setBackdrop(name: string, backdrop: Backdrop): void {
    const gl = this.gl
    const texture = this.textures.get(name)?.texture ?? gl.createTexture()
    this.textures.set(name, { texture, box: backdrop.box })
    gl.bindTexture(gl.TEXTURE_2D, texture)
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, true)
    gl.texImage2D(
      gl.TEXTURE_2D,
      0,
      gl.RGBA,
      backdrop.width,
      backdrop.height,
      0,
      gl.RGBA,
      gl.UNSIGNED_BYTE,
      new Uint8Array(backdrop.pixels.buffer as ArrayBuffer),
    )
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false)
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR)
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE)
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE)
  }

  /** Begin a picture of `size` pixels of the page. */
  clear(size: Size): void {
    const ratio = window.devicePixelRatio || 1
    const [width, height] = [Math.round(size.width * ratio), Math.round(size.height * ratio)]
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width
      this.canvas.height = height
    }
    this.gl.viewport(0, 0, width, height)
    this.gl.clearColor(0, 0, 0, 0)
    this.gl.clear(this.gl.COLOR_BUFFER_BIT)
  }

  drawBackdrop(name: string, view: View, size: Size, alpha = 1): void {
    const kept = this.textures.get(name)
    if (this.lost || !kept) return
    const gl = this.gl
    gl.useProgram(this.sheet)
    gl.uniform4f(this.uniform(this.sheet, 'u_box'), kept.box.left, kept.box.bottom, kept.box.right, kept.box.top)
    gl.uniform4fv(this.uniform(this.sheet, 'u_to'), clip(view, size))
    gl.uniform1f(this.uniform(this.sheet, 'u_alpha'), alpha)
    gl.bindTexture(gl.TEXTURE_2D, kept.texture)
    this.attribute(this.sheet, 'a_corner', this.corners, 2, gl.FLOAT, false, 8, 0)
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4)
  }

  /**
   * Draw stretches of points.
   *
   * `step`: 1 draws all, k every k-th. `transition`: the view of the map that was, and how much of the way is done.
   */
  drawPoints(
    stretches: readonly [number, number][],
    view: View,
    size: Size,
    diameter: number,
    { step = 1, alpha = 1, transition = { view, share: 1 } } = {},
  ): void {
    if (this.lost) return
    const gl = this.gl
    const pixels = Math.max(1, diameter * (window.devicePixelRatio || 1))
    gl.useProgram(this.points)
    gl.uniform4fv(this.uniform(this.points, 'u_from'), clip(transition.view, size))
    gl.uniform4fv(this.uniform(this.points, 'u_to'), clip(view, size))
    gl.uniform1f(this.uniform(this.points, 'u_share'), transition.share)
    gl.uniform1f(this.uniform(this.points, 'u_size'), pixels)
    gl.uniform1f(this.uniform(this.points, 'u_round'), pixels > 2.5 ? pixels : 0)
    gl.uniform1f(this.uniform(this.points, 'u_alpha'), alpha)
    const bind = (first: number, each: number) => {
      this.attribute(this.points, 'a_from', this.from, 2, gl.FLOAT, false, 8 * each, 8 * first)
      this.attribute(this.points, 'a_to', this.to, 2, gl.FLOAT, false, 8 * each, 8 * first)
      this.attribute(this.points, 'a_color', this.colors, 4, gl.UNSIGNED_BYTE, true, 4 * each, 4 * first)
    }
    if (step === 1) bind(0, 1)
    for (const [start, end] of stretches) {
      if (step === 1) gl.drawArrays(gl.POINTS, start, end - start)
      else {
        // From a multiple of the step, so that the same points are drawn whatever is in view.
        const first = Math.ceil(start / step) * step
        if (first >= end) continue
        bind(first, step)
        gl.drawArrays(gl.POINTS, 0, Math.floor((end - 1 - first) / step) + 1)
      }
    }
  }

  private fill(buffer: WebGLBuffer, data: Float32Array | Uint8Array): void {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer)
    this.gl.bufferData(this.gl.ARRAY_BUFFER, data, this.gl.DYNAMIC_DRAW)
  }

  private attribute(
    owner: WebGLProgram,
    name: string,
    buffer: WebGLBuffer,
    parts: number,
    type: number,
    normalized: boolean,
    stride: number,
    offset: number,
  ): void {
    const place = this.gl.getAttribLocation(owner, name)
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer)
    this.gl.enableVertexAttribArray(place)
    this.gl.vertexAttribPointer(place, parts, type, normalized, stride, offset)
  }

  private uniform(owner: WebGLProgram, name: string): WebGLUniformLocation | null {
    const key = `${owner === this.points ? 'points' : 'sheet'}.${name}`
    if (!this.uniforms.has(key)) this.uniforms.set(key, this.gl.getUniformLocation(owner, name))
    return this.uniforms.get(key) ?? null
  }
}

/** Offset and scale from coordinates of the map into the clip space. */
function clip(view: View, size: Size): [number, number, number, number] {
  return [view.x, view.y, (2 * view.scale) / size.width, (2 * view.scale) / size.height]
}

function program(gl: WebGL2RenderingContext, vertex: string, fragment: string): WebGLProgram {
  const made = gl.createProgram()
  for (const [kind, text] of [
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
  ] as const) {
    const shader = gl.createShader(kind)
    if (!shader) throw new Error('The map cannot be drawn: WebGL gave no shader.')
    gl.shaderSource(shader, text)
    gl.compileShader(shader)
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS))
      throw new Error(`The map cannot be drawn: ${gl.getShaderInfoLog(shader)}`)
    gl.attachShader(made, shader)
  }
  gl.linkProgram(made)
  if (!gl.getProgramParameter(made, gl.LINK_STATUS))
    throw new Error(`The map cannot be drawn: ${gl.getProgramInfoLog(made)}`)
  return made
}
