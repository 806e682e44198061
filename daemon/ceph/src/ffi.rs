//! librados and librbd, loaded when they are first needed: each function that is used, behind a safe one; nothing else in the crate is unsafe.
//!
//! Prototypes are those of `rados/librados.h` and `rbd/librbd.h` of Ceph 16. Only functions that are there since then, and in every later
//! release, are asked for.
#![allow(unsafe_code)]

use crate::error::{Errno, LoadError};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::{Arc, OnceLock};

/// `rbd_image_watcher_t`.
#[repr(C)]
struct RawWatcher {
    address: *mut c_char,
    client: i64,
    cookie: u64,
}

type Callback = extern "C" fn(u64, usize, c_int, *mut c_void) -> c_int;

/// Declares the functions of one library, and how they are found in it.
macro_rules! functions {
    ($library:ident { $(fn $name:ident($($kind:ty),*) $(-> $result:ty)?;)* }) => {
        struct $library { $($name: unsafe extern "C" fn($($kind),*) $(-> $result)?,)* }

        impl $library {
            fn find(handle: *mut c_void, file: &'static CStr) -> Result<Self, LoadError> {
                // SAFETY: each name is a C function of the type declared here, by the library's own header.
                $(let $name = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($kind),*) $(-> $result)?>(
                    symbol(handle, file, concat!(stringify!($name), "\0"))?,
                ) };)*
                Ok(Self { $($name,)* })
            }
        }
    };
}

functions! { LibRados {
    fn rados_create2(*mut *mut c_void, *const c_char, *const c_char, u64) -> c_int;
    fn rados_conf_set(*mut c_void, *const c_char, *const c_char) -> c_int;
    fn rados_connect(*mut c_void) -> c_int;
    fn rados_shutdown(*mut c_void);
    fn rados_cluster_fsid(*mut c_void, *mut c_char, usize) -> c_int;
    fn rados_get_instance_id(*mut c_void) -> u64;
    fn rados_getaddrs(*mut c_void, *mut *mut c_char) -> c_int;
    fn rados_wait_for_latest_osdmap(*mut c_void) -> c_int;
    fn rados_mon_command(*mut c_void, *const *const c_char, usize, *const c_char, usize, *mut *mut c_char, *mut usize, *mut *mut c_char, *mut usize) -> c_int;
    fn rados_buffer_free(*mut c_char);
    fn rados_pool_list(*mut c_void, *mut c_char, usize) -> c_int;
    fn rados_pool_reverse_lookup(*mut c_void, i64, *mut c_char, usize) -> c_int;
    fn rados_ioctx_create(*mut c_void, *const c_char, *mut *mut c_void) -> c_int;
    fn rados_ioctx_destroy(*mut c_void);
    fn rados_ioctx_get_id(*mut c_void) -> i64;
    fn rados_ioctx_set_namespace(*mut c_void, *const c_char);
    fn rados_set_pool_full_try(*mut c_void);
    fn rados_read(*mut c_void, *const c_char, *mut c_char, usize, u64) -> c_int;
    fn rados_stat(*mut c_void, *const c_char, *mut u64, *mut libc::time_t) -> c_int;
    fn rados_exec(*mut c_void, *const c_char, *const c_char, *const c_char, *const c_char, usize, *mut c_char, usize) -> c_int;
    fn rados_create_read_op() -> *mut c_void;
    fn rados_release_read_op(*mut c_void);
    fn rados_read_op_set_flags(*mut c_void, c_int);
    fn rados_read_op_exec(*mut c_void, *const c_char, *const c_char, *const c_char, usize, *mut *mut c_char, *mut usize, *mut c_int);
    fn rados_read_op_omap_get_vals_by_keys2(*mut c_void, *const *const c_char, usize, *const usize, *mut *mut c_void, *mut c_int);
    fn rados_read_op_omap_get_vals2(*mut c_void, *const c_char, *const c_char, u64, *mut *mut c_void, *mut u8, *mut c_int);
    fn rados_read_op_operate(*mut c_void, *mut c_void, *const c_char, c_int) -> c_int;
    fn rados_omap_get_next2(*mut c_void, *mut *mut c_char, *mut *mut c_char, *mut usize, *mut usize) -> c_int;
    fn rados_omap_get_end(*mut c_void);
    fn rados_create_write_op() -> *mut c_void;
    fn rados_release_write_op(*mut c_void);
    fn rados_write_op_cmpext(*mut c_void, *const c_char, usize, u64, *mut c_int);
    fn rados_write_op_remove(*mut c_void);
    fn rados_write_op_create(*mut c_void, c_int, *const c_char);
    fn rados_write_op_omap_set2(*mut c_void, *const *const c_char, *const *const c_char, *const usize, *const usize, usize);
    fn rados_write_op_omap_rm_keys2(*mut c_void, *const *const c_char, *const usize, usize);
    fn rados_write_op_operate(*mut c_void, *mut c_void, *const c_char, *mut c_void, c_int) -> c_int;
} }

functions! { LibRbd {
    fn rbd_image_options_create(*mut *mut c_void);
    fn rbd_image_options_destroy(*mut c_void);
    fn rbd_image_options_set_uint64(*mut c_void, c_int, u64) -> c_int;
    fn rbd_image_options_set_string(*mut c_void, c_int, *const c_char) -> c_int;
    fn rbd_create4(*mut c_void, *const c_char, u64, *mut c_void) -> c_int;
    fn rbd_clone3(*mut c_void, *const c_char, *const c_char, *mut c_void, *const c_char, *mut c_void) -> c_int;
    fn rbd_open_by_id(*mut c_void, *const c_char, *mut *mut c_void, *const c_char) -> c_int;
    fn rbd_open_by_id_read_only(*mut c_void, *const c_char, *mut *mut c_void, *const c_char) -> c_int;
    fn rbd_close(*mut c_void) -> c_int;
    fn rbd_resize2(*mut c_void, u64, bool, *const c_void, *mut c_void) -> c_int;
    fn rbd_watchers_list(*mut c_void, *mut RawWatcher, *mut usize) -> c_int;
    fn rbd_watchers_list_cleanup(*mut RawWatcher, usize);
    fn rbd_diff_iterate2(*mut c_void, *const c_char, u64, u64, u8, u8, Callback, *mut c_void) -> c_int;
    fn rbd_trash_move(*mut c_void, *const c_char, u64) -> c_int;
    fn rbd_trash_remove(*mut c_void, *const c_char, bool) -> c_int;
    fn rbd_snap_create(*mut c_void, *const c_char) -> c_int;
    fn rbd_snap_remove(*mut c_void, *const c_char) -> c_int;
    fn rbd_flatten(*mut c_void) -> c_int;
    fn rbd_get_overlap(*mut c_void, *mut u64) -> c_int;
    fn rbd_read(*mut c_void, u64, usize, *mut c_char) -> isize;
} }

/// Both libraries. They stay loaded until the process ends.
pub(crate) struct Libraries {
    rados: LibRados,
    rbd: LibRbd,
}

/// Loads both, once; a failure is not remembered, since a package may be installed meanwhile.
pub(crate) fn libraries() -> Result<&'static Libraries, LoadError> {
    static LOADED: OnceLock<Libraries> = OnceLock::new();
    if let Some(loaded) = LOADED.get() {
        return Ok(loaded);
    }
    let (rados, rbd) = (c"librados.so.2", c"librbd.so.1");
    let loaded = Libraries { rados: LibRados::find(open(rados)?, rados)?, rbd: LibRbd::find(open(rbd)?, rbd)? };
    Ok(LOADED.get_or_init(|| loaded))
}

fn open(file: &'static CStr) -> Result<*mut c_void, LoadError> {
    // SAFETY: a C string in, a handle or null out.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() { Err(LoadError::Library { file, cause: dl_error() }) } else { Ok(handle) }
}

fn symbol(handle: *mut c_void, file: &'static CStr, name: &'static str) -> Result<*mut c_void, LoadError> {
    // SAFETY: the handle is a loaded library's, and the name ends with a null byte.
    let found = unsafe { libc::dlsym(handle, name.as_ptr().cast()) };
    if found.is_null() { Err(LoadError::Function { file, name: name.trim_end_matches('\0') }) } else { Ok(found) }
}

fn dl_error() -> String {
    // SAFETY: null, or a C string of this thread.
    let text = unsafe { libc::dlerror() };
    // SAFETY: looked at before anything else is loaded.
    if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
}

fn c(text: &str) -> Result<CString, Errno> {
    CString::new(text).map_err(|_| Errno(libc::EINVAL))
}

/// The convention of both libraries: a negative number is an errno.
fn checked(result: c_int) -> Result<u32, Errno> {
    u32::try_from(result).map_err(|_| Errno(result.saturating_neg()))
}

/// Text that a function writes into a buffer with its terminating zero.
fn text_of(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

/// A buffer that librados allocated for an answer.
struct Answer {
    lib: &'static LibRados,
    data: *mut c_char,
    len: usize,
    result: c_int,
}

impl Answer {
    fn empty(lib: &'static LibRados) -> Self {
        Self { lib, data: null_mut(), len: 0, result: 0 }
    }

    fn bytes(&self) -> Vec<u8> {
        if self.data.is_null() {
            return Vec::new();
        }
        // SAFETY: librados filled in where its buffer is and how long.
        unsafe { std::slice::from_raw_parts(self.data.cast::<u8>(), self.len) }.to_vec()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.data.is_null() {
            // SAFETY: librados allocated it, and nobody else has it.
            unsafe { (self.lib.rados_buffer_free)(self.data) };
        }
    }
}

/// A client of a cluster (`rados_t`), connected or not yet.
pub(crate) struct Rados {
    raw: *mut c_void,
    libs: &'static Libraries,
}

// SAFETY: a `rados_t` may be used from several threads at once (librados takes its own locks).
unsafe impl Send for Rados {}
// SAFETY: as above.
unsafe impl Sync for Rados {}

impl Drop for Rados {
    fn drop(&mut self) {
        // SAFETY: pools and images hold a count of this, so nothing uses it any more.
        unsafe { (self.libs.rados.rados_shutdown)(self.raw) };
    }
}

impl Rados {
    /// A client that reads no file and no environment. `entity` is `client.ID`.
    pub(crate) fn new(libs: &'static Libraries, entity: &str) -> Result<Self, Errno> {
        let (entity, mut raw) = (c(entity)?, null_mut());
        // SAFETY: both names are C strings, and the handle is written where we say.
        checked(unsafe { (libs.rados.rados_create2)(&mut raw, c"ceph".as_ptr(), entity.as_ptr(), 0) })?;
        Ok(Self { raw, libs })
    }

    pub(crate) fn set(&self, option: &CStr, value: &str) -> Result<(), Errno> {
        let value = c(value)?;
        // SAFETY: both are C strings, copied by librados.
        checked(unsafe { (self.libs.rados.rados_conf_set)(self.raw, option.as_ptr(), value.as_ptr()) }).map(drop)
    }

    pub(crate) fn connect(&self) -> Result<(), Errno> {
        // SAFETY: the handle is live, and connected once.
        checked(unsafe { (self.libs.rados.rados_connect)(self.raw) }).map(drop)
    }

    pub(crate) fn fsid(&self) -> Result<String, Errno> {
        let mut buffer = [0u8; 64];
        // SAFETY: the buffer is as long as we say.
        checked(unsafe { (self.libs.rados.rados_cluster_fsid)(self.raw, buffer.as_mut_ptr().cast(), buffer.len()) })?;
        Ok(text_of(&buffer))
    }

    /// The number of this client: `client.N`.
    pub(crate) fn instance(&self) -> u64 {
        // SAFETY: the handle is connected.
        unsafe { (self.libs.rados.rados_get_instance_id)(self.raw) }
    }

    /// The addresses of this client, as monitors take them.
    pub(crate) fn addresses(&self) -> Result<String, Errno> {
        let mut text = Answer::empty(&self.libs.rados);
        // SAFETY: the handle is connected; a C string is put where we say, which `Answer` gives back.
        checked(unsafe { (self.libs.rados.rados_getaddrs)(self.raw, &mut text.data) })?;
        // SAFETY: it is a C string, and not null after success.
        Ok(unsafe { CStr::from_ptr(text.data) }.to_string_lossy().into_owned())
    }

    pub(crate) fn wait_for_latest_osdmap(&self) -> Result<(), Errno> {
        // SAFETY: the handle is connected.
        checked(unsafe { (self.libs.rados.rados_wait_for_latest_osdmap)(self.raw) }).map(drop)
    }

    /// A monitor's command as JSON: what it writes, or its errno and what it says to that.
    pub(crate) fn mon_command(&self, json: &str) -> Result<Vec<u8>, (Errno, String)> {
        let command = c(json).map_err(|errno| (errno, String::new()))?;
        let commands = [command.as_ptr()];
        let lib = &self.libs.rados;
        let (mut output, mut words) = (Answer::empty(lib), Answer::empty(lib));
        // SAFETY: one C string, no input, and two places for buffers that `Answer` gives back.
        let result =
            unsafe { (lib.rados_mon_command)(self.raw, commands.as_ptr(), 1, null(), 0, &mut output.data, &mut output.len, &mut words.data, &mut words.len) };
        match checked(result) {
            Ok(_) => Ok(output.bytes()),
            Err(errno) => Err((errno, String::from_utf8_lossy(&words.bytes()).into_owned())),
        }
    }

    /// Pools of the map that this client has; asks nobody.
    pub(crate) fn pools(&self) -> Result<Vec<String>, Errno> {
        let mut buffer = vec![0u8; 4096];
        loop {
            // SAFETY: the buffer is as long as we say.
            let needed = checked(unsafe { (self.libs.rados.rados_pool_list)(self.raw, buffer.as_mut_ptr().cast(), buffer.len()) })? as usize;
            if needed <= buffer.len() {
                break;
            }
            buffer.resize(needed, 0);
        }
        Ok(buffer.split(|byte| *byte == 0).take_while(|name| !name.is_empty()).map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// A pool that is not in the map is waited for, without a limit.
    pub(crate) fn pool_name(&self, id: i64) -> Result<String, Errno> {
        let mut buffer = [0u8; 1024];
        // SAFETY: the buffer is as long as we say.
        checked(unsafe { (self.libs.rados.rados_pool_reverse_lookup)(self.raw, id, buffer.as_mut_ptr().cast(), buffer.len()) })?;
        Ok(text_of(&buffer))
    }

    /// A pool, or a namespace in it, for one caller. One that is not in the map is waited for, without a limit.
    pub(crate) fn pool(self: &Arc<Self>, name: &str, namespace: Option<&str>) -> Result<Pool, Errno> {
        let (name, mut raw) = (c(name)?, null_mut());
        // SAFETY: a C string, and the handle is written where we say.
        checked(unsafe { (self.libs.rados.rados_ioctx_create)(self.raw, name.as_ptr(), &mut raw) })?;
        Pool { raw, rados: self.clone() }.within(namespace)
    }
}

/// A call of an object class's method.
pub(crate) struct Exec<'a> {
    pub(crate) class: &'static CStr,
    pub(crate) method: &'static CStr,
    pub(crate) input: &'a [u8],
}

/// What `rbd_create` and `rbd_clone` are told beside name and size.
pub(crate) struct ImageOptions<'a> {
    pub(crate) features: u64,
    pub(crate) order: Option<u64>,
    pub(crate) striping: Option<(u64, u64)>,
    pub(crate) data_pool: Option<&'a str>,
    /// Clones: 2 is the format that needs no protected snapshot.
    pub(crate) clone_format: Option<u64>,
}

/// Somebody who watches an image's header: a client that has it open for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watcher {
    /// `ADDRESS:PORT/NONCE`.
    pub(crate) address: String,
    /// The number of the client.
    pub(crate) client: i64,
    /// The number of the watch, by which a lock that goes with it is named.
    pub(crate) cookie: u64,
}

/// Keys and values of an object.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// A pool and a namespace in it (`rados_ioctx_t`).
pub(crate) struct Pool {
    raw: *mut c_void,
    rados: Arc<Rados>,
}

// SAFETY: as of `Rados`; what is not safe to share (setting the namespace) is done before anybody has it.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: images borrow the pool, so nothing uses it any more.
        unsafe { (self.rados.libs.rados.rados_ioctx_destroy)(self.raw) };
    }
}

impl Pool {
    /// A pool that is full answers so instead of letting its writers wait.
    fn within(self, namespace: Option<&str>) -> Result<Self, Errno> {
        let namespace = namespace.map(c).transpose()?;
        // SAFETY: the handle is ours alone, the name is a C string or null.
        unsafe {
            (self.lib().rados_set_pool_full_try)(self.raw);
            (self.lib().rados_ioctx_set_namespace)(self.raw, namespace.as_ref().map_or(null(), |name| name.as_ptr()));
        }
        Ok(self)
    }

    fn lib(&self) -> &'static LibRados {
        &self.rados.libs.rados
    }

    fn rbd(&self) -> &'static LibRbd {
        &self.rados.libs.rbd
    }

    pub(crate) fn id(&self) -> i64 {
        // SAFETY: the handle is live.
        unsafe { (self.lib().rados_ioctx_get_id)(self.raw) }
    }

    /// Reads the beginning of an object: 1 operation.
    pub(crate) fn read(&self, object: &str) -> Result<Vec<u8>, Errno> {
        let (object, mut buffer) = (c(object)?, vec![0u8; 4096]);
        // SAFETY: a C string, and a buffer as long as we say.
        let read = checked(unsafe { (self.lib().rados_read)(self.raw, object.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len(), 0) })?;
        buffer.truncate(read as usize);
        Ok(buffer)
    }

    /// Is there such an object? 1 operation.
    pub(crate) fn exists(&self, object: &str) -> Result<bool, Errno> {
        let (object, mut size, mut time) = (c(object)?, 0, 0);
        // SAFETY: a C string, and places for two numbers.
        match checked(unsafe { (self.lib().rados_stat)(self.raw, object.as_ptr(), &mut size, &mut time) }) {
            Ok(_) => Ok(true),
            Err(Errno(libc::ENOENT)) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Has a method of an object class done that answers nothing: 1 operation.
    pub(crate) fn exec(&self, object: &str, call: &Exec<'_>) -> Result<(), Errno> {
        let object = c(object)?;
        // SAFETY: C strings, an input as long as we say, no room for an answer.
        let result = unsafe {
            (self.lib().rados_exec)(
                self.raw,
                object.as_ptr(),
                call.class.as_ptr(),
                call.method.as_ptr(),
                call.input.as_ptr().cast(),
                call.input.len(),
                null_mut(),
                0,
            )
        };
        checked(result).map(drop)
    }

    /// Asks several methods that only read, all in 1 operation. Each has its own result; the outer one is the object's (not there, not reached).
    pub(crate) fn ask(&self, object: &str, calls: &[Exec<'_>]) -> Result<Vec<Result<Vec<u8>, Errno>>, Errno> {
        const FAIL_OK: c_int = 2;
        let object = c(object)?;
        let mut answers: Vec<Answer> = calls.iter().map(|_| Answer::empty(self.lib())).collect();
        let operation = ReadOperation::new(self.lib());
        for (call, answer) in calls.iter().zip(&mut answers) {
            // SAFETY: C strings, an input as long as we say, and places for the answer that outlive `operate`.
            unsafe {
                (self.lib().rados_read_op_exec)(
                    operation.raw,
                    call.class.as_ptr(),
                    call.method.as_ptr(),
                    call.input.as_ptr().cast(),
                    call.input.len(),
                    &mut answer.data,
                    &mut answer.len,
                    &mut answer.result,
                );
                (self.lib().rados_read_op_set_flags)(operation.raw, FAIL_OK);
            }
        }
        operation.operate(self, &object)?;
        Ok(answers.iter().map(|answer| checked(answer.result).map(|_| answer.bytes())).collect())
    }

    /// The values of those keys of an object that it has: 1 operation.
    pub(crate) fn omap(&self, object: &str, keys: &[&str]) -> Result<Pairs, Errno> {
        let object = c(object)?;
        let (pointers, lengths) = (pointers(keys), lengths(keys));
        let (operation, mut values) = (ReadOperation::new(self.lib()), OmapValues::empty(self.lib()));
        // SAFETY: as many keys as we say, each as long as we say; the places for the answer outlive `operate`.
        unsafe {
            (self.lib().rados_read_op_omap_get_vals_by_keys2)(
                operation.raw,
                pointers.as_ptr(),
                keys.len(),
                lengths.as_ptr(),
                &mut values.iterator,
                &mut values.result,
            );
        }
        operation.operate(self, &object)?;
        values.collect()
    }

    /// At most `limit` pairs of an object, in the order of their keys, after one: 1 operation.
    pub(crate) fn omap_after(&self, object: &str, after: &str, limit: u64) -> Result<Pairs, Errno> {
        let (object, after) = (c(object)?, c(after)?);
        let (operation, mut values, mut more) = (ReadOperation::new(self.lib()), OmapValues::empty(self.lib()), 0u8);
        // SAFETY: C strings; the places for the answer outlive `operate`.
        unsafe {
            (self.lib().rados_read_op_omap_get_vals2)(operation.raw, after.as_ptr(), c"".as_ptr(), limit, &mut values.iterator, &mut more, &mut values.result);
        }
        operation.operate(self, &object)?;
        values.collect()
    }

    /// Removes an object, if it begins with those bytes: 1 operation. An errno beyond 4095 says that it does not.
    pub(crate) fn remove_if(&self, object: &str, bytes: &[u8]) -> Result<(), Errno> {
        let mut compared = 0;
        // SAFETY: a live operation, bytes as long as we say, and a place for the result that outlives `operate`.
        self.write(object, |operation| unsafe {
            (self.lib().rados_write_op_cmpext)(operation, bytes.as_ptr().cast(), bytes.len(), 0, &mut compared);
            (self.lib().rados_write_op_remove)(operation);
        })
    }

    /// Removes an object: 1 operation.
    pub(crate) fn remove(&self, object: &str) -> Result<(), Errno> {
        // SAFETY: a live operation.
        self.write(object, |operation| unsafe { (self.lib().rados_write_op_remove)(operation) })
    }

    /// Makes an empty object, unless there is one: 1 operation.
    pub(crate) fn touch(&self, object: &str) -> Result<(), Errno> {
        // SAFETY: a live operation; not exclusive; no category, as there has been none for long.
        self.write(object, |operation| unsafe { (self.lib().rados_write_op_create)(operation, 0, null()) })
    }

    /// Sets pairs of an object, which is made if it does not exist: 1 operation.
    pub(crate) fn omap_set(&self, object: &str, pairs: &[(&str, &[u8])]) -> Result<(), Errno> {
        let keys: Vec<&str> = pairs.iter().map(|(key, _)| *key).collect();
        let values: Vec<&[u8]> = pairs.iter().map(|(_, value)| *value).collect();
        let (key_at, key_lengths, value_at, value_lengths) = (pointers(&keys), lengths(&keys), pointers(&values), lengths(&values));
        // SAFETY: as many keys and values as we say, each as long as we say; librados copies them.
        self.write(object, |operation| unsafe {
            (self.lib().rados_write_op_omap_set2)(operation, key_at.as_ptr(), value_at.as_ptr(), key_lengths.as_ptr(), value_lengths.as_ptr(), pairs.len());
        })
    }

    /// Removes keys of an object: 1 operation.
    pub(crate) fn omap_remove(&self, object: &str, keys: &[&str]) -> Result<(), Errno> {
        let (pointers, lengths) = (pointers(keys), lengths(keys));
        // SAFETY: as many keys as we say, each as long as we say; librados copies them.
        self.write(object, |operation| unsafe {
            (self.lib().rados_write_op_omap_rm_keys2)(operation, pointers.as_ptr(), lengths.as_ptr(), keys.len());
        })
    }

    fn write(&self, object: &str, fill: impl FnOnce(*mut c_void)) -> Result<(), Errno> {
        let object = c(object)?;
        // SAFETY: an operation that is released below, whatever becomes of it.
        let operation = unsafe { (self.lib().rados_create_write_op)() };
        fill(operation);
        // SAFETY: a live operation and pool, a C string, no time of our own.
        let result = unsafe { (self.lib().rados_write_op_operate)(operation, self.raw, object.as_ptr(), null_mut(), 0) };
        // SAFETY: it is not used any more.
        unsafe { (self.lib().rados_release_write_op)(operation) };
        checked(result).map(drop)
    }

    pub(crate) fn create(&self, image: &str, size: u64, options: &ImageOptions<'_>) -> Result<(), Errno> {
        let (image, options) = (c(image)?, RawOptions::new(self.rbd(), options)?);
        // SAFETY: live handles and a C string.
        checked(unsafe { (self.rbd().rbd_create4)(self.raw, image.as_ptr(), size, options.raw) }).map(drop)
    }

    /// Makes `image` of `to` from a snapshot of `parent`, which is in this pool.
    pub(crate) fn clone_to(&self, parent: &str, snapshot: &str, to: &Pool, image: &str, options: &ImageOptions<'_>) -> Result<(), Errno> {
        let (parent, snapshot, image, options) = (c(parent)?, c(snapshot)?, c(image)?, RawOptions::new(self.rbd(), options)?);
        // SAFETY: live handles and C strings.
        checked(unsafe { (self.rbd().rbd_clone3)(self.raw, parent.as_ptr(), snapshot.as_ptr(), to.raw, image.as_ptr(), options.raw) }).map(drop)
    }

    /// Opens an image by its id, for what changes it. It may be in the trash.
    pub(crate) fn open_by_id(&self, id: &str) -> Result<Image<'_>, Errno> {
        let (id, mut raw) = (c(id)?, null_mut());
        // SAFETY: a C string, no snapshot, and the handle is written where we say.
        checked(unsafe { (self.rbd().rbd_open_by_id)(self.raw, id.as_ptr(), &mut raw, null()) })?;
        Ok(Image { raw, pool: self })
    }

    /// Opens an image by its id, for looking; leaves no watcher.
    pub(crate) fn open_to_look(&self, id: &str) -> Result<Image<'_>, Errno> {
        let (id, mut raw) = (c(id)?, null_mut());
        // SAFETY: a C string, no snapshot, and the handle is written where we say.
        checked(unsafe { (self.rbd().rbd_open_by_id_read_only)(self.raw, id.as_ptr(), &mut raw, null()) })?;
        Ok(Image { raw, pool: self })
    }

    /// Moves an image into the trash, from where it may be removed at once.
    pub(crate) fn trash_move(&self, image: &str) -> Result<(), Errno> {
        let image = c(image)?;
        // SAFETY: a live handle and a C string.
        checked(unsafe { (self.rbd().rbd_trash_move)(self.raw, image.as_ptr(), 0) }).map(drop)
    }

    /// Removes an image that is in the trash, unless somebody asked for it to be kept for a time.
    pub(crate) fn trash_remove(&self, id: &str) -> Result<(), Errno> {
        let id = c(id)?;
        // SAFETY: a live handle and a C string.
        checked(unsafe { (self.rbd().rbd_trash_remove)(self.raw, id.as_ptr(), false) }).map(drop)
    }
}

fn pointers<T: AsRef<[u8]>>(items: &[T]) -> Vec<*const c_char> {
    items.iter().map(|item| item.as_ref().as_ptr().cast()).collect()
}

fn lengths<T: AsRef<[u8]>>(items: &[T]) -> Vec<usize> {
    items.iter().map(|item| item.as_ref().len()).collect()
}

/// `rados_read_op_t`.
struct ReadOperation {
    raw: *mut c_void,
    lib: &'static LibRados,
}

impl ReadOperation {
    fn new(lib: &'static LibRados) -> Self {
        // SAFETY: released when it is dropped.
        Self { raw: unsafe { (lib.rados_create_read_op)() }, lib }
    }

    fn operate(&self, pool: &Pool, object: &CStr) -> Result<(), Errno> {
        // SAFETY: a live operation and pool, and a C string.
        checked(unsafe { (self.lib.rados_read_op_operate)(self.raw, pool.raw, object.as_ptr(), 0) }).map(drop)
    }
}

impl Drop for ReadOperation {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and not used any more.
        unsafe { (self.lib.rados_release_read_op)(self.raw) };
    }
}

/// `rados_omap_iter_t`.
struct OmapValues {
    iterator: *mut c_void,
    result: c_int,
    lib: &'static LibRados,
}

impl OmapValues {
    fn empty(lib: &'static LibRados) -> Self {
        Self { iterator: null_mut(), result: 0, lib }
    }

    fn collect(&self) -> Result<Pairs, Errno> {
        checked(self.result)?;
        let mut pairs = Vec::new();
        while !self.iterator.is_null() {
            let (mut key, mut value, mut key_len, mut value_len) = (null_mut(), null_mut(), 0, 0);
            // SAFETY: a live iterator, and four places to write to.
            checked(unsafe { (self.lib.rados_omap_get_next2)(self.iterator, &mut key, &mut value, &mut key_len, &mut value_len) })?;
            if key.is_null() {
                break;
            }
            // SAFETY: librados said where both are and how long; they live as long as the iterator.
            let copy = |at: *mut c_char, len| if len == 0 { Vec::new() } else { unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) }.to_vec() };
            pairs.push((copy(key, key_len), copy(value, value_len)));
        }
        Ok(pairs)
    }
}

impl Drop for OmapValues {
    fn drop(&mut self) {
        if !self.iterator.is_null() {
            // SAFETY: librados made it, and nobody uses it any more.
            unsafe { (self.lib.rados_omap_get_end)(self.iterator) };
        }
    }
}

/// `rbd_image_options_t`.
struct RawOptions {
    raw: *mut c_void,
    lib: &'static LibRbd,
}

impl RawOptions {
    /// The numbers are `RBD_IMAGE_OPTION_*`.
    fn new(lib: &'static LibRbd, wanted: &ImageOptions<'_>) -> Result<Self, Errno> {
        let mut raw = null_mut();
        // SAFETY: the handle is written where we say, and destroyed when it is dropped.
        unsafe { (lib.rbd_image_options_create)(&mut raw) };
        let options = Self { raw, lib };
        options.number(0, 2)?;
        options.number(1, wanted.features)?;
        if let Some(order) = wanted.order {
            options.number(2, order)?;
        }
        if let Some((unit, count)) = wanted.striping {
            options.number(3, unit)?;
            options.number(4, count)?;
        }
        if let Some(format) = wanted.clone_format {
            options.number(12, format)?;
        }
        if let Some(pool) = wanted.data_pool {
            let pool = c(pool)?;
            // SAFETY: a live handle and a C string, copied by librbd.
            checked(unsafe { (lib.rbd_image_options_set_string)(raw, 10, pool.as_ptr()) })?;
        }
        Ok(options)
    }

    fn number(&self, option: c_int, value: u64) -> Result<(), Errno> {
        // SAFETY: a live handle.
        checked(unsafe { (self.lib.rbd_image_options_set_uint64)(self.raw, option, value) }).map(drop)
    }
}

impl Drop for RawOptions {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and not used any more.
        unsafe { (self.lib.rbd_image_options_destroy)(self.raw) };
    }
}

/// An open image (`rbd_image_t`).
pub(crate) struct Image<'pool> {
    raw: *mut c_void,
    pool: &'pool Pool,
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        // SAFETY: opened by the pool, and not used any more. What close answers changes nothing for anybody.
        let _ = unsafe { (self.pool.rbd().rbd_close)(self.raw) };
    }
}

/// The end of a walk over an image's objects at the first that exists.
extern "C" fn found(_offset: u64, _len: usize, exists: c_int, _argument: *mut c_void) -> c_int {
    if exists == 0 { 0 } else { -libc::EEXIST }
}

impl Image<'_> {
    /// Grows; a size below the present one is refused by librbd.
    pub(crate) fn grow(&self, size: u64) -> Result<(), Errno> {
        // SAFETY: a live handle, no callback.
        checked(unsafe { (self.pool.rbd().rbd_resize2)(self.raw, size, false, null(), null_mut()) }).map(drop)
    }

    /// All who watch the header, ourselves included where we have it open for writing.
    pub(crate) fn watchers(&self) -> Result<Vec<Watcher>, Errno> {
        let rbd = self.pool.rbd();
        let mut room = 16;
        loop {
            let mut raw: Vec<RawWatcher> = (0..room).map(|_| RawWatcher { address: null_mut(), client: 0, cookie: 0 }).collect();
            let mut count = raw.len();
            // SAFETY: room for as many as we say.
            match checked(unsafe { (rbd.rbd_watchers_list)(self.raw, raw.as_mut_ptr(), &mut count) }) {
                Err(Errno(libc::ERANGE)) if count > room => room = count,
                Err(errno) => return Err(errno),
                Ok(_) => {
                    // SAFETY: librbd filled in `count` of them, each address a C string.
                    let text = |watcher: &RawWatcher| unsafe { CStr::from_ptr(watcher.address) }.to_string_lossy().into_owned();
                    let watchers = raw[..count].iter().map(|one| Watcher { address: text(one), client: one.client, cookie: one.cookie }).collect();
                    // SAFETY: the addresses are given back once.
                    unsafe { (rbd.rbd_watchers_list_cleanup)(raw.as_mut_ptr(), count) };
                    return Ok(watchers);
                }
            }
        }
    }

    /// Does any object of the image, or of a parent beneath it, exist within its first `size` bytes?
    pub(crate) fn has_objects(&self, size: u64) -> Result<bool, Errno> {
        self.has(size, 1)
    }

    /// The same, of the image itself.
    pub(crate) fn has_objects_of_its_own(&self, size: u64) -> Result<bool, Errno> {
        self.has(size, 0)
    }

    fn has(&self, size: u64, with_parents: u8) -> Result<bool, Errno> {
        // SAFETY: a live handle, no snapshot, and a callback that uses nothing.
        match checked(unsafe { (self.pool.rbd().rbd_diff_iterate2)(self.raw, null(), 0, size, with_parents, 1, found, null_mut()) }) {
            Ok(_) => Ok(false),
            Err(Errno(libc::EEXIST)) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    pub(crate) fn snapshot(&self, name: &str) -> Result<(), Errno> {
        let name = c(name)?;
        // SAFETY: a live handle and a C string.
        checked(unsafe { (self.pool.rbd().rbd_snap_create)(self.raw, name.as_ptr()) }).map(drop)
    }

    pub(crate) fn remove_snapshot(&self, name: &str) -> Result<(), Errno> {
        let name = c(name)?;
        // SAFETY: a live handle and a C string.
        checked(unsafe { (self.pool.rbd().rbd_snap_remove)(self.raw, name.as_ptr()) }).map(drop)
    }

    /// How many bytes at its beginning come from its parent where it has none of its own; 0 without a parent.
    pub(crate) fn overlap(&self) -> Result<u64, Errno> {
        let mut overlap = 0;
        // SAFETY: a live handle, and a place for a number.
        checked(unsafe { (self.pool.rbd().rbd_get_overlap)(self.raw, &mut overlap) })?;
        Ok(overlap)
    }

    /// Fills the buffer with what is in the image, or in its parent, from there on.
    pub(crate) fn read(&self, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Errno> {
        while !buffer.is_empty() {
            // SAFETY: a live handle, and a buffer as long as we say.
            let read = unsafe { (self.pool.rbd().rbd_read)(self.raw, offset, buffer.len(), buffer.as_mut_ptr().cast()) };
            match usize::try_from(read) {
                Ok(read) if (1..=buffer.len()).contains(&read) => (offset, buffer) = (offset + read as u64, &mut buffer[read..]),
                Ok(_) => return Err(Errno(libc::EIO)),
                Err(_) => return Err(Errno(i32::try_from(read.saturating_neg()).unwrap_or(libc::EIO))),
            }
        }
        Ok(())
    }

    /// Copies what the image still has from its parent.
    pub(crate) fn flatten(&self) -> Result<(), Errno> {
        // SAFETY: a live handle.
        checked(unsafe { (self.pool.rbd().rbd_flatten)(self.raw) }).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_missing_or_too_old_is_named() {
        let missing = open(c"libradosnowhere.so.2").map(drop).unwrap_err().to_string();
        assert!(missing.contains("libradosnowhere.so.2") && missing.contains("librados2 and librbd1"), "{missing}");
        let file = c"libc.so.6";
        let old = LibRados::find(open(file).unwrap(), file).map(drop).unwrap_err().to_string();
        assert!(old.contains("libc.so.6 has no function rados_create2"), "{old}");
    }
}
